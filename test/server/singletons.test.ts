/** One worker of a name at a time over several processes, which are killed and stopped. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { execute, installedDatabase } from "../support/database.ts"
import { sourceProcess } from "../support/program.ts"
import type { Setup } from "./support/consumerProgram.ts"

/** How long the stopped process is stopped. */
const stopped = process.env["REALTIME_TEST_LONG"] === "1" ? 60_000 : 0

/** A worker that ends with the scope. */
const worker = (setup: Setup) =>
  Effect.gen(function* () {
    const child = yield* sourceProcess(
      ["test/server/support/consumerProgram.ts"],
      { CONSUMER_SETUP: JSON.stringify(setup) },
      ["ignore", "ignore", "pipe", "ipc"]
    )
    let errors = ""
    child.stderr!.on("data", (data: Buffer) => (errors += data.toString()))
    const heard = new Set<unknown>()
    child.on("message", (text) => heard.add(text))
    const until = (text: string) =>
      Effect.suspend(() =>
        child.exitCode !== null && child.exitCode !== 0
          ? Effect.die(new Error(`The worker has ended:\n${errors}`))
          : Effect.succeed(heard.has(text))
      ).pipe(Effect.repeat({ until: (said) => said, schedule: Schedule.spaced(20) }), Effect.asVoid)
    return {
      until,
      go: Effect.sync(() => void child.send("go")),
      signal: (name: "SIGKILL" | "SIGSTOP" | "SIGCONT") => Effect.sync(() => void child.kill(name))
    }
  })

describe("A consumer of one name", () => {
  it.live(
    "one of two processes works, the other takes over from a stopped and from a killed one within 5 s, exactly once",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const run = (text: string) => execute(url, text)
        yield* run("create table done (n int, who text, at timestamptz default clock_timestamp())")
        const publish = (from: number, to: number) =>
          run(`select realtime.publish('log', n::text) from generate_series(${from}, ${to}) n`)
        const count = (where: string) =>
          Effect.map(run(`select count(*)::int n from done where ${where}`), ([row]) => row?.["n"])
        const until = (where: string, n: number) =>
          Effect.repeat(count(where), {
            until: (found) => found === n,
            schedule: Schedule.spaced(50)
          })
        /** Milliseconds that this process waited for a core, while others have the machine. */
        let waited = 0
        let last = performance.now()
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.andThen(
              Effect.sleep(20),
              Effect.sync(() => {
                waited += Math.max(0, performance.now() - last - 25)
                last = performance.now()
              })
            )
          )
        )
        /** Asserts that a step took 5 s at most, beside what the machine adds. */
        const within5s = (step: Effect.Effect<unknown, unknown>) =>
          Effect.gen(function* () {
            const [at, before] = [performance.now(), waited]
            yield* step
            const added = usual + waited - before
            expect(performance.now() - at - added).toBeLessThan(5000)
          })

        const a = yield* worker({ url, who: "a", kind: "effect", held: 40 })
        yield* a.until("ready")
        const begun = performance.now()
        yield* publish(1, 20)
        yield* until("who = 'a'", 20)
        /** What so many events take. */
        const usual = performance.now() - begun
        const b = yield* worker({ url, who: "b", kind: "class" })
        yield* b.until("ready")
        yield* publish(21, 40)
        yield* a.until("held")
        // In the middle of its transaction: what it has written has locks, and it renews no more.
        yield* within5s(
          a
            .signal("SIGSTOP")
            .pipe(Effect.andThen(publish(41, 60)), Effect.andThen(until("n > 20", 40)))
        )
        yield* Effect.sleep(stopped)
        yield* a.signal("SIGCONT")
        yield* a.go
        yield* publish(61, 80)
        yield* until("n > 60", 20)
        yield* within5s(
          b
            .signal("SIGKILL")
            .pipe(Effect.andThen(publish(81, 100)), Effect.andThen(until("n > 80", 20)))
        )
        const rows = yield* run("select n, who from done order by at")
        expect(rows.map((row) => row["n"])).toEqual(Array.from({ length: 100 }, (_, n) => n + 1))
        expect(rows.filter((row) => row["who"] === "b").map((row) => row["n"])).toEqual(
          Array.from({ length: 60 }, (_, n) => n + 21)
        )
      }).pipe(Effect.scoped),
    180_000
  )
})
