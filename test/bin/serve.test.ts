/** `serve`: a gateway over a real database, with real sockets. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Channel } from "effect-realtime"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { WebSocket } from "ws"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { temporary } from "../support/temporary.ts"
import { clientOf, hear, secret, serve, tokenOf } from "./support/gateway.ts"
import { recorded } from "./support/guide.ts"
import { record } from "./support/run.ts"

const get = (url: string) =>
  Effect.promise(async () => {
    const response = await fetch(url)
    return [response.status, await response.text()] as const
  })

describe("serve", () => {
  it.live("serves channels and a table of flags, its health and its metrics, and ends with 0", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, status text)")
      const gateway = yield* serve(["--allow-all", "--live", "news", "--table", "orders"])
      const { address, sql } = gateway
      expect(yield* get(`${address}/health`)).toEqual([200, '{"status":"ready"}'])
      expect(yield* get(`${address}/health/live`)).toEqual([200, '{"status":"live"}'])
      expect((yield* get(`${address}/other`))[0]).toBe(404)
      const client = yield* clientOf(address)
      const orders = yield* hear(client, "table_updates_orders")
      const news = yield* hear(client, "news")
      yield* sql("insert into orders values (1, 'new')")
      expect(yield* orders).toMatchObject({ operation: "INSERT", data: { id: 1, status: "new" } })
      yield* sql(`select pg_notify('news', '{"a":1}')`)
      expect(yield* news).toEqual({ a: 1 })
      const Orders = Channel.table("orders", Schema.Struct({ id: Schema.Int }), { key: "id" })
      const rows = client.rows(Orders)
      yield* Effect.promise(
        () =>
          new Promise<void>((done) => {
            const stop = rows.subscribe(() => {
              if (rows.getSnapshot().rows.length === 1) done()
            })
            if (rows.getSnapshot().rows.length === 1) done()
            void stop
          })
      )
      const named = yield* serve(["--durable", "jobs", "--allow-all", "--name", "web-7"])
      yield* hear(yield* clientOf(named.address), "jobs")
      const [status, metrics] = yield* get(`${address}/metrics`)
      expect(status).toBe(200)
      // Of this gateway alone: the other one is a process of its own.
      for (const line of ["sessions 1", "subscriptions 2", "events_out_total 2", "link_up 1"]) {
        expect(metrics.split("\n")).toContain(`effect_realtime_${line}`)
      }
      const { stdout } = yield* record(["status", "--json", "--database", url])
      const { nodes } = JSON.parse(stdout) as {
        readonly nodes: ReadonlyArray<{ readonly node: string; readonly subscriptions: number }>
      }
      expect(nodes.find(({ node }) => node === "web-7")).toMatchObject({ subscriptions: 1 })
      yield* named.signal
      yield* gateway.signal
      expect(yield* gateway.ended).toMatchObject({
        code: 0,
        stdout: recorded("serve").replace("http://127.0.0.1:8080", address)
      })
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("bounds clients by their tokens, as its file says", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, team text, status text)")
      const folder = yield* temporary
      const file = Path.join(folder, "gateway.json")
      Fs.writeFileSync(
        file,
        JSON.stringify({
          jwt: { secret },
          channels: {
            news: { read: "any", publish: { claim: "role", param: "role" } },
            "room_{room}": {
              delivery: "durable",
              read: { claim: "rooms", param: "room" },
              publish: { claim: "rooms", param: "room" }
            }
          },
          tables: { orders: { read: { claim: "team", column: "team" } } }
        })
      )
      const wrong = yield* record(["serve", "--config", file, "--database", url])
      expect(wrong.code).toBe(64)
      expect(wrong.stderr).toContain('channels.news.publish: The channel has no parameter "role"')
      const text = Fs.readFileSync(file, "utf8")
      Fs.writeFileSync(file, text.replace('{"claim":"role","param":"role"}', '"signed-in"'))
      const { address, sql } = yield* serve(["--config", file])
      const token = yield* tokenOf({ rooms: ["lobby"], team: "red" })
      const ann = yield* clientOf(address, token)
      const guest = yield* clientOf(address)
      const seen = yield* hear(guest, "news")
      expect(yield* yield* hear(guest, "room_lobby")).toBe("channel/forbidden")
      expect(yield* yield* hear(guest, "table_updates_orders")).toBe("channel/forbidden")
      expect(yield* yield* hear(ann, "room_attic")).toBe("channel/forbidden")
      expect(yield* yield* hear(ann, "other")).toBe("channel/unknown")
      const lobby = yield* hear(ann, "room_lobby")
      const orders = yield* hear(ann, "table_updates_orders")
      yield* Effect.promise(() => ann.publish("room_lobby", "hello"))
      expect(yield* lobby).toBe("hello")
      yield* Effect.promise(() => ann.publish("news", { by: "ann" }))
      expect(yield* seen).toEqual({ by: "ann" })
      yield* sql("insert into orders values (1, 'blue', 'new'), (2, 'red', 'new')")
      expect(yield* orders).toMatchObject({ operation: "INSERT", data: { id: 2 } })
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("says what is missing before it listens, and where a port is taken", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const database = ["--database", url]
      yield* execute(url, "create table items (id int primary key)")
      const open = ["--live", "n", "--allow-all", "--port", "0", ...database]
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, number, string]> = [
        [["--live", "news", "--allow-all"], 64, "serve needs a database"],
        [[...database], 64, "There is nothing to serve"],
        [["--live", "news", ...database], 64, "No client may use anything"],
        [["--live", "news", "--read", "signed-in", ...database], 64, "needs tokens"],
        [["--config", "/nowhere.json", ...database], 64, "/nowhere.json cannot be read"],
        [[...open, "--path", "ws"], 64, "--path: "],
        [
          [...open, "--jwt-keys", "http://a.b", "--jwt-issuer", "a", "--jwt-audience", "b"],
          64,
          "--jwt-keys: It is no https address of a key set"
        ],
        [
          [...open, "--live", "table_updates_items", "--table", "items"],
          64,
          '--table items: --live table_updates_items has the channel "table_updates_items" too'
        ],
        [
          [...open, "--live", "r_{a}", "--durable", "r_{b}"],
          64,
          "--durable r_{b}: It matches the same names as --live r_{a}."
        ],
        [
          ["--table", "missing", "--allow-all", "--port", "0", ...database],
          64,
          'no table "public.missing"'
        ],
        [
          [
            "--live",
            "n",
            "--allow-all",
            "--port",
            "0",
            "--database",
            url.replace(/\/[^/]*$/, "/none")
          ],
          1,
          "does not exist"
        ]
      ]
      for (const [args, code, said] of cases) {
        const refused = yield* record(["serve", ...args])
        expect([refused.code, refused.stdout], args.join(" ")).toEqual([code, ""])
        expect(refused.stderr).toContain(said)
      }
      const env = { REALTIME_NATS_PASSWORD: "p" }
      expect((yield* record(["serve", ...open], { env })).stderr).toMatch(
        /^error: REALTIME_NATS_PASSWORD: There is no server of NATS\./
      )
      const { address } = yield* serve(["--live", "news", "--read", "any"])
      const port = new URL(address).port
      const taken = yield* record([
        "serve",
        "--live",
        "news",
        "--read",
        "any",
        "--port",
        port,
        ...database
      ])
      expect([taken.code, taken.stdout]).toEqual([1, ""])
      expect(taken.stderr).toContain(`Port ${port} of 127.0.0.1 is taken`)
    }).pipe(Effect.provide(layerDatabase))
  )
})

describe("each spelling of the settings of serve", () => {
  const same = [
    ["path", "/ws"],
    ["live", "news"],
    ["durable", "jobs"],
    ["allow-all", "true"],
    ["max-sessions", "1"],
    ["trust-proxy", "0"],
    ["origin", "https://app.example.com"],
    ["drain-timeout", "1 seconds"],
    ["schema", "gate"]
  ] as const
  const spellings = {
    "flags alone": () => ({
      args: same.flatMap(([flag, value]) =>
        value === "true" ? [`--${flag}`] : [`--${flag}`, value]
      )
    }),
    "variables alone": () => ({
      env: Object.fromEntries(
        same.map(([flag, value]) => [`REALTIME_${flag.toUpperCase().replaceAll("-", "_")}`, value])
      )
    }),
    "a file alone": (file: string) => {
      Fs.writeFileSync(
        file,
        JSON.stringify({
          path: "/ws",
          channels: { news: {}, jobs: { delivery: "durable" } },
          allowAll: true,
          limits: { maxSessions: 1, drainTimeout: "1 seconds" },
          trustProxy: 0,
          origins: ["https://app.example.com"],
          schema: "gate"
        })
      )
      return { args: ["--config", file] }
    }
  }

  it.live.each(Object.entries(spellings))("%s gives the same gateway", ([, given]) =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const { args = [], env = {} } = given(Path.join(folder, "gateway.json")) as {
        readonly args?: ReadonlyArray<string>
        readonly env?: Readonly<Record<string, string>>
      }
      const gateway = yield* serve(args, env)
      const ws = `${gateway.address.replace("http", "ws")}/ws`
      const upgrade = (origin?: string) =>
        Effect.callback<number>((done) => {
          const socket = new WebSocket(ws, origin === undefined ? {} : { origin })
          socket.once("open", () => done(Effect.succeed(101)))
          socket.once("unexpected-response", (_, { statusCode }) => {
            done(Effect.succeed(statusCode ?? 0))
            socket.terminate()
          })
          socket.on("error", () => undefined)
        })
      expect((yield* get(`${gateway.address}/ws`))[0]).toBe(426)
      expect(yield* upgrade("https://other.example.com")).toBe(403)
      expect(yield* upgrade("https://app.example.com")).toBe(101)
      expect(yield* upgrade()).toBe(503)
      const { url } = yield* TestDatabase
      const sent = yield* record([
        "publish",
        "jobs",
        "1",
        "--schema",
        "gate",
        "--delivery",
        "durable",
        "--database",
        url
      ])
      expect(sent.code).toBe(0)
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("a flag is stronger than its variable, and both are stronger than the file", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* temporary, "gateway.json")
      Fs.writeFileSync(file, JSON.stringify({ path: "/file", channels: { news: { read: "any" } } }))
      const args = ["--config", file]
      const byFile = yield* serve(args)
      expect((yield* get(`${byFile.address}/file`))[0]).toBe(426)
      const byVariable = yield* serve(args, { REALTIME_PATH: "/variable" })
      expect((yield* get(`${byVariable.address}/variable`))[0]).toBe(426)
      const byFlag = yield* serve([...args, "--path", "/flag"], { REALTIME_PATH: "/variable" })
      expect((yield* get(`${byFlag.address}/flag`))[0]).toBe(426)
    }).pipe(Effect.provide(layerDatabase))
  )
})

describe("a fault of what serve is given", () => {
  /** Ends before it looks for a database. */
  const refused = (
    args: ReadonlyArray<string>,
    env: Readonly<Record<string, string>> = {},
    file?: unknown
  ) =>
    Effect.gen(function* () {
      const path = Path.join(yield* temporary, "gateway.json")
      if (file !== undefined) {
        Fs.writeFileSync(path, typeof file === "string" ? file : JSON.stringify(file))
      }
      const all = [...args, ...(file === undefined ? [] : ["--config", path])]
      const { code, stderr, stdout } = yield* record(["serve", ...all], {
        env: { DATABASE_URL: "postgres://127.0.0.1:1/none", REALTIME_PORT: "0", ...env }
      })
      expect([code, stdout], stderr).toEqual([64, ""])
      const lines = stderr.split("\n").filter((line) => !/^$|^\s*ERROR\s*$|level=/.test(line))
      expect(lines).toHaveLength(1)
      return lines[0]!.replace(/^error: /, "").replaceAll(path, "gateway.json")
    })

  const open = ["--live", "news", "--allow-all"]

  it.live("names the variable, and what it must be", () =>
    Effect.gen(function* () {
      expect(yield* refused(open, { REALTIME_PORT: "abc" })).toBe(
        'REALTIME_PORT: "abc" does not fit. It must be a whole number.'
      )
      expect(yield* refused(open, { REALTIME_PORT: "99999" })).toContain(
        "REALTIME_PORT: 99999 is no port. Give one from 1 to 65535"
      )
      expect(yield* refused(["--live", "news"], { REALTIME_READ: "everyone" })).toBe(
        'REALTIME_READ: "everyone" does not fit. It must be any or signed-in; a claim is a rule of the file that --config names.'
      )
      expect(yield* refused(["--live", "news"], { REALTIME_ALLOW_ALL: "maybe" })).toContain(
        'REALTIME_ALLOW_ALL: "maybe" does not fit. It must be true or false.'
      )
      expect(yield* refused(open, { REALTIME_JWT_SECRET: "short" })).toContain(
        "REALTIME_JWT_SECRET: The secret has 5 bytes, and needs 32 bytes or more"
      )
      for (const name of [
        "SESSIONS",
        "SESSIONS_PER_IDENTITY",
        "SESSIONS_PER_ADDRESS",
        "SUBSCRIPTIONS",
        "FRAME_BYTES"
      ]) {
        for (const value of ["0", "-5"]) {
          expect(yield* refused(open, { [`REALTIME_MAX_${name}`]: value })).toBe(
            `REALTIME_MAX_${name}: The value is ${value}. It must be a whole number of at least 1.`
          )
        }
      }
      expect(yield* refused(open, { REALTIME_LISTEN: "secret" })).toMatch(/^REALTIME_LISTEN: /)
      expect(yield* refused(open, { REALTIME_LISTEN: "secret" })).not.toContain("secret")
      expect(yield* refused(open, { DATABASE_URL: "mysql://x" })).toMatch(/^DATABASE_URL: /)
    })
  )

  it.live("names the flag, or the key of the file", () =>
    Effect.gen(function* () {
      expect(yield* refused([...open, "--port", "-1"])).toContain("--port: -1 is no port.")
      expect(yield* refused([...open, "--origin", "nonsense"])).toContain(
        '--origin: The value is "nonsense". It must be an origin such as'
      )
      expect(yield* refused([...open, "--jwt-keys", "http://id.example.com"])).toContain(
        "--jwt-keys: A key set signs tokens for other applications too."
      )
      for (const path of ["/health", "/health/live", "/metrics"]) {
        expect(yield* refused([...open, "--path", path])).toContain(
          `--path: The value is "${path}". It must be another one than /health`
        )
      }
      expect(yield* refused([...open, "--path", "/chât"])).toBe(
        '--path: The value is "/chât". It must be written as clients send it: "/ch%C3%A2t".'
      )
      const file = (more: object) => ({ channels: { a: { read: "any" } }, ...more })
      expect(yield* refused([], { REALTIME_PORT: "" }, file({ port: -1 }))).toContain(
        "gateway.json: port: -1 is no port."
      )
      const faults = [
        [{ limits: { maxSessions: -5 } }, "gateway.json: limits.maxSessions: The value is -5."],
        [{ trustProxy: -1 }, "gateway.json: trustProxy: The value is -1."],
        [{ origins: ["nonsense"] }, 'gateway.json: origins: The value is "nonsense".'],
        [{ path: "/a?b" }, 'gateway.json: path: The value is "/a?b".'],
        [
          { path: "/health/" },
          'gateway.json: path: The value is "/health/". It must be another one than /health, /health/live and /metrics, which the gateway answers itself.'
        ],
        [{ schema: "A b" }, "gateway.json: schema: "],
        [{ jwt: { keys: "http://x", issuer: "any", audience: "any" } }, "gateway.json: jwt.keys: "],
        [
          { origins: "any", jwt: { cookie: "t", keys: "x" } },
          "gateway.json: origins: With tokens of a cookie (gateway.json: jwt.cookie) every page"
        ]
      ] as const
      for (const [more, said] of faults) {
        expect(yield* refused([], {}, file(more))).toContain(said)
      }
      expect(yield* refused([], {}, '{\n  "port": 80,\n}')).toBe(
        "gateway.json: The text is not JSON at line 3, column 1."
      )
      expect(yield* refused([...open, "--durable", "news"])).toContain(
        "--durable news: --live news has this channel too."
      )
    })
  )

  it.live("is no more than a line for variables that it does not know, with the nearest one", () =>
    Effect.gen(function* () {
      const { stderr } = yield* record(["serve"], {
        env: { REALTIME_LIV: "news", REALTIME_JWT_ISUER: "me", REALTIME_NATS_USER: "u", REAL: "x" }
      })
      expect(stderr.split("\n").filter((line) => line.includes("does not know"))).toEqual([
        expect.stringContaining(
          "REALTIME_LIV (did you mean REALTIME_LIVE?), REALTIME_JWT_ISUER (did you mean REALTIME_JWT_ISSUER?)."
        )
      ])
      expect(stderr).not.toContain("REALTIME_NATS_USER (")
    })
  )
})
