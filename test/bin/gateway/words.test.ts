/** The log of a gateway: what a refusal was, and its cure in flags, variables and keys of the file. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Channel } from "effect-realtime"
import { SignJWT } from "jose"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { WebSocket } from "ws"
import { execute, layerDatabase, TestDatabase } from "../../support/database.ts"
import { temporary } from "../../support/temporary.ts"
import { clientOf, hear, secret, serve, tokenOf } from "../support/gateway.ts"

const signed = (claims: Readonly<Record<string, unknown>>, key = secret) =>
  Effect.promise(() =>
    new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(new TextEncoder().encode(key))
  )

const later = Math.floor(Date.now() / 1000) + 600

/** Sends frames on a socket of its own, and waits until the gateway closes it or answers so often. */
const say = (address: string, frames: ReadonlyArray<object>, answers = Infinity) =>
  Effect.callback<void>((done) => {
    const socket = new WebSocket(`${address.replace("http", "ws")}/realtime`)
    let heard = 0
    socket.once("open", () => {
      for (const frame of frames) socket.send(JSON.stringify(frame))
    })
    socket.on("message", () => {
      if (++heard >= answers) socket.close()
    })
    socket.on("error", () => undefined)
    socket.once("close", () => done(Effect.void))
  })

/** The rows of a table once a client has its state. */
const rowsOf = (client: Effect.Success<ReturnType<typeof clientOf>>, name: string) =>
  Effect.promise(
    () =>
      new Promise<ReadonlyArray<unknown>>((done) => {
        const table = Channel.table(name, Schema.Struct({ id: Schema.Int }), { key: "id" })
        const rows = client.rows(table)
        const look = () => {
          const { rows: found, status } = rows.getSnapshot()
          if (status === "live") done(found)
        }
        rows.subscribe(look)
        look()
      })
  )

describe("the log of a gateway", () => {
  it.live("names what a refused token lacks, and each cure in the words of the gateway", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, team text)")
      const gateway = yield* serve(
        ["--live", "news", "--table", "orders", "--read", "any", "--jwt-issuer", "me"],
        { REALTIME_JWT_SECRET: secret }
      )
      const { address } = gateway
      const tokens = [
        yield* signed({ sub: "ann", iss: "me" }),
        yield* signed({ exp: later, iss: "me" }),
        yield* signed({ sub: "ann", exp: later }),
        yield* signed({ sub: "ann", exp: later, iss: "you" }),
        yield* signed({ sub: "ann", exp: later, iss: "me" }, "x".repeat(32)),
        "nonsense"
      ]
      for (const token of tokens) {
        yield* say(address, [{ type: "hello", version: 1, token }])
      }
      yield* say(
        address,
        [
          { type: "hello", version: 1 },
          { type: "subscribe", id: 1, channel: "other" },
          { type: "subscribe", id: 2, channel: "table_updates_orders", where: { team: "red" } },
          { type: "publish", id: 3, channel: "news", data: 1, key: "k" }
        ],
        4
      )
      yield* Effect.callback<void>((done) => {
        const socket = new WebSocket(`${address.replace("http", "ws")}/realtime`, {
          origin: "https://page.example"
        })
        socket.on("error", () => undefined)
        socket.once("unexpected-response", () => {
          socket.terminate()
          done(Effect.void)
        })
      })
      yield* gateway.signal
      const { stderr } = yield* gateway.ended
      const lines = stderr.split("\n").filter((line) => line.includes("level=WARN"))
      const invalid = "A client was refused: its token is not valid. "
      const said = [
        `${invalid}It has no claim \\"exp\\". Let the issuer of the token set it.`,
        `${invalid}It has no claim \\"sub\\". Let the issuer of the token set it.`,
        `${invalid}It has no claim \\"iss\\". Let the issuer of the token set it.`,
        `${invalid}Its claim \\"iss\\" has no value that this server accepts. Compare the issuer.`,
        `${invalid}Its signature does not fit the key.`,
        `${invalid}It is no signed JSON Web Token`,
        "A client asked for a channel that this gateway does not serve. Add it with --live,",
        "A client asked for rows with a filter that its table does not have. Name the column in",
        "A client may not publish to a channel that has no rule for it. Give the channel a",
        "name its origin in --origin (in the file"
      ]
      for (const text of said) {
        expect(
          lines.filter((line) => line.includes(text)),
          text
        ).toHaveLength(1)
      }
      expect(lines).toHaveLength(said.length)
      expect(stderr).not.toMatch(/definition|authorize|authenticate|option origins|trustProxy to/)
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("has no error of a claim that a column cannot have: its rule matches no row", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create type mood as enum ('ok')")
      const types = { a: "int", b: "mood" }
      for (const [name, type] of Object.entries(types)) {
        yield* execute(url, `create table ${name} (id int primary key, x ${type})`)
      }
      const file = Path.join(yield* temporary, "gateway.json")
      const table = { read: { claim: "x", column: "x" } }
      Fs.writeFileSync(
        file,
        JSON.stringify({
          jwt: { secret },
          tables: Object.fromEntries(Object.keys(types).map((name) => [name, table]))
        })
      )
      const gateway = yield* serve(["--config", file])
      const claims = [{ a: 1 }, "nonsense", "\u0000"]
      const all = claims.flatMap((x) => Object.keys(types).map((name) => ({ x, name })))
      yield* Effect.forEach(
        all,
        ({ name, x }) =>
          Effect.gen(function* () {
            const client = yield* clientOf(
              gateway.address,
              yield* tokenOf({ sub: `${name} ${JSON.stringify(x)}`, x })
            )
            expect(yield* rowsOf(client, name)).toEqual([])
          }),
        { concurrency: 6 }
      )
      const client = yield* clientOf(
        gateway.address,
        yield* tokenOf({ sub: "eve", x: ["nonsense", 7, "ok"] })
      )
      const heard = yield* hear(client, "table_updates_a")
      yield* gateway.sql("insert into a values (1, 8), (2, 7)")
      expect(yield* heard).toMatchObject({ data: { id: 2 } })
      yield* gateway.sql("insert into b values (1, 'ok')")
      expect(yield* rowsOf(client, "b")).toEqual([{ id: 1 }])
      yield* gateway.signal
      expect((yield* gateway.ended).stderr).not.toMatch(/level=(ERROR|WARN)/)
    }).pipe(Effect.provide(layerDatabase))
  )
})
