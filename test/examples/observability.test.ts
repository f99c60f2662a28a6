/** The guide about metrics, traces and the dashboard: all that it says exists, and Prometheus takes it. */
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Metric, Schema, Scope, Tracer } from "effect"
import { HttpRouter } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import type { RealtimeClient } from "effect-realtime/client"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import { Notices, OrderUpdates } from "../../examples/channels.ts"
import { send } from "../../examples/observability/client.ts"
import { Observability } from "../../examples/observability/otlp.ts"
import { http as plain } from "../../examples/observability/plain.ts"
import { Routes } from "../../examples/observability/prometheus.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { apart } from "../server/support/series.ts"
import { Address, address } from "../support/app.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { executablePath, prometheus, type Samples } from "../support/prometheus.ts"
import { greet } from "../support/wire.ts"

const root = Path.resolve(import.meta.dirname, "../..")
const folder = Path.join(root, "examples/observability")
const read = (path: string) => Fs.readFileSync(path, "utf8")
const guide = read(Path.join(root, "examples/operations/README.md"))

/** The metrics of the sources, by name. */
const known = new Map(
  Object.values(metrics).flatMap((metric) =>
    Metric.isMetric(metric) ? [[metric.id, metric] as const] : []
  )
)

const Dashboard = Schema.fromJsonString(
  Schema.Struct({
    panels: Schema.Array(
      Schema.Struct({
        title: Schema.String,
        targets: Schema.Array(Schema.Struct({ expr: Schema.String }))
      })
    )
  })
)

/** Every query of the dashboard. */
const queries = Schema.decodeSync(Dashboard)(read(Path.join(folder, "dashboard.json")))
  .panels.flatMap(({ targets }) => targets)
  .map(({ expr }) => expr)

/** The expressions of the alerts. */
const alerts = [...read(Path.join(folder, "alerts.yml")).matchAll(/^ +expr: (.*)$/gm)].map(
  ([, expr]) => expr!
)

/** The metrics that an expression names, without the endings of a histogram. */
const namesIn = (text: string) =>
  seriesIn(text).map((name) => (known.has(name) ? name : name.replace(/_(bucket|sum|count)$/, "")))

/** The series that an expression names. */
const seriesIn = (text: string) => [...text.matchAll(/effect_realtime_\w+/g)].map(([name]) => name)

/** Every node that Prometheus scrapes has this one of its own. */
const gone = 'up{job="effect-realtime"} == 0'

const app = HttpRouter.serve(Routes, { disableListenLog: true, disableLogger: true }).pipe(
  Layer.provideMerge(address),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(Layer.merge(MemoryOutbox.layer(), MemorySource.layer))
)

/** The same with all that a node can have but NATS. */
const withDatabase = HttpRouter.serve(
  Layer.merge(
    RealtimeServer.layer({
      channels: [Notices, OrderUpdates],
      authorize: RealtimeServer.allowAll,
      control: true
    }),
    PrometheusMetrics.layerHttp()
  ),
  { disableListenLog: true, disableLogger: true }
).pipe(
  Layer.provideMerge(address),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(PgNodeBus.layer()),
  Layer.provideMerge(Layer.merge(OutboxReader.layer(), PgNotificationSource.layer())),
  Layer.provideMerge(layerInstalledDatabase)
)

/** Whether an answer has a sample. */
const isFound = (samples: Samples) => samples.length > 0

describe("the documents of metrics", () => {
  it("have each metric once, with its meaning", () => {
    const rows = guide.split("\n").filter((line) => line.startsWith("| `effect_realtime_"))
    const named = rows.flatMap((row) => namesIn(row.split("|")[1]!))
    expect(named.toSorted()).toEqual([...known.keys()].toSorted())
    for (const metric of known.values()) expect(metric.description).toBeTruthy()
  })

  it.live(
    "name all series of a node from its first scrape, but those of parts that it does not have",
    () =>
      apart(
        Effect.gen(function* () {
          const node = yield* Layer.build(withDatabase)
          const { http } = Context.get(node, Address)
          const text = yield* Effect.promise(() =>
            fetch(`${http}/metrics`).then((answer) => answer.text())
          )
          const named = new Set(
            [...text.matchAll(/^effect_realtime_\w+/gm)].flatMap(([name]) => namesIn(name))
          )
          const missing = [...known.keys()].filter((name) => !named.has(name))
          const marked = ["nats_up", "outbox_rows", "outbox_bytes", "notification_queue_ratio"]
          expect(missing.filter((name) => !marked.includes(name.slice(16)))).toEqual([])
          for (const name of marked) expect(guide).toContain(`\`${name}\``)
        }).pipe(Effect.scoped)
      )
  )

  it("name durations in seconds and sizes in bytes", () => {
    expect(
      [...known.keys()].filter((name) => /_(ms|millis|milliseconds|kb|mb)$/.test(name))
    ).toEqual([])
  })

  it.each([...queries, ...alerts.filter((expr) => expr !== gone)])(
    "have a metric for %s",
    (query) => {
      const names = namesIn(query)
      expect(names.length).toBeGreaterThan(0)
      expect(names.filter((name) => !known.has(name))).toEqual([])
    }
  )
})

describe.skipIf(executablePath === undefined)("Prometheus", () => {
  it("takes the alerts and the configuration", () => {
    const tool = Path.join(Path.dirname(executablePath!), "promtool")
    const checked = (...args: ReadonlyArray<string>) =>
      execFileSync(tool, ["check", ...args], { cwd: folder, encoding: "utf8" })
    expect(checked("rules", "alerts.yml")).toContain("SUCCESS: 4 rules found")
    expect(checked("config", "prometheus.yml")).toContain("SUCCESS")
  })

  it.live(
    "scrapes a node, has data for every query of the dashboard, and sees that the node is gone",
    () =>
      apart(
        Effect.gen(function* () {
          const scope = yield* Scope.fork(yield* Effect.scope)
          const node = yield* Scope.provide(Layer.build(withDatabase), scope)
          const { http, ws } = Context.get(node, Address)
          yield* greet(ws)
          yield* greet(ws)
          const ask = yield* prometheus(new URL(http).host)
          const query = (expr: string) =>
            Effect.promise(() => ask(expr.replaceAll("$__rate_interval", "1m")))
          const until = (expr: string, condition: (samples: Samples) => boolean) =>
            Effect.repeat(
              Effect.delay(
                Effect.promise(() => ask(expr).catch((): Samples => [])),
                50
              ),
              { until: condition }
            )
          yield* until("effect_realtime_sessions", ([sample]) => sample?.value[1] === "2")
          // A rate is of two scrapes, and the outbox is read at the first look of the reader.
          yield* until("count_over_time(effect_realtime_outbox_rows[1m]) > 1", isFound)
          const empty: Array<string> = []
          for (const expr of queries) {
            if (!isFound(yield* query(expr))) empty.push(expr)
          }
          expect(empty).toEqual([])
          // An alert has an answer only while it holds, so its series are asked for.
          expect(alerts[0]).toBe(gone)
          for (const name of alerts.flatMap(seriesIn)) {
            expect(yield* query(name), name).not.toEqual([])
          }
          for (const expr of alerts) expect(yield* query(expr), expr).toEqual([])
          const types = yield* query('count({__name__=~"effect_realtime_.*"})')
          expect(Number(types[0]?.value[1])).toBeLessThan(500)
          yield* Scope.close(scope, Exit.void)
          yield* until(gone, isFound)
        }).pipe(Effect.scoped)
      )
  )
})

describe("the recipes", () => {
  const listening = (server: Server) =>
    Effect.acquireRelease(
      Effect.callback<string>((resume) => {
        server.listen(0, "127.0.0.1", () =>
          resume(Effect.succeed(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
        )
      }),
      () => Effect.sync(() => server.close())
    )

  it.live("plain.ts answers with the metrics of the process", () =>
    Effect.gen(function* () {
      const url = yield* listening(plain)
      const node = yield* Layer.build(app)
      const answer = Effect.promise(() => fetch(`${url}/metrics`))
      expect((yield* answer).headers.get("content-type")).toBe("text/plain; version=0.0.4")
      const sessions = Effect.flatMap(answer, (response) =>
        Effect.promise(async () => {
          const [, count] = /^effect_realtime_sessions (\d+)$/m.exec(await response.text())!
          return Number(count)
        })
      )
      // The recipe shows the whole process, and other tests run in it.
      const before = yield* sessions
      yield* greet(Context.get(node, Address).ws)
      expect(yield* sessions).toBe(before + 1)
    }).pipe(Effect.scoped)
  )

  it.live("otlp.ts sends the spans, the metrics and the log of a node to a collector", () =>
    Effect.gen(function* () {
      const bodies = new Map<string, string>()
      const collector = createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk))
        request.on("end", () => {
          const path = request.url!
          bodies.set(path, (bodies.get(path) ?? "") + Buffer.concat(chunks).toString())
          response.end("{}")
        })
      })
      const url = yield* listening(collector)
      yield* Effect.gen(function* () {
        const wire = yield* greet((yield* Address).ws)
        wire.send({ type: "subscribe", id: 1, channel: "system_notifications" })
        yield* wire.next("subscribed")
        yield* Effect.log("hello")
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(app, Observability(url))))
      expect(bodies.get("/v1/traces")).toContain("realtime.subscribe")
      expect(bodies.get("/v1/metrics")).toContain("effect_realtime_sessions")
      expect(bodies.get("/v1/logs")).toContain("hello")
    }).pipe(Effect.scoped)
  )

  it.effect("client.ts publishes under the trace of its span", () =>
    Effect.gen(function* () {
      const published: Array<unknown> = []
      const client = {
        publish: (channel: { readonly name: string }, _: unknown, options: unknown) =>
          Effect.sync(() => published.push([channel.name, options]))
      } as unknown as RealtimeClient.RealtimeClient["Service"]
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      yield* Effect.provideService(send(client, "hi"), Tracer.Tracer, tracer)
      const [{ spanId, traceId }] = spans as [Tracer.Span]
      expect(published).toEqual([["room_lobby", { trace: `00-${traceId}-${spanId}-01` }]])
    })
  )
})
