/** The guide about metrics, traces and the dashboard: all that it says exists, and Prometheus takes it. */
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Metric, Schema, Scope, Tracer } from "effect"
import { HttpRouter } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import type { RealtimeClient } from "effect-realtime/client"
import { execFileSync, spawnSync } from "node:child_process"
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
import { execute, layerInstalledDatabase, serverUrl, TestDatabase } from "../support/database.ts"
import { executablePath, prometheus, type Samples } from "../support/prometheus.ts"
import { temporary } from "../support/temporary.ts"
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
const isGone = 'up{job="effect-realtime"} == 0'

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

  it.each([...queries, ...alerts.filter((expr) => expr !== isGone)])(
    "have a metric for %s",
    (query) => {
      const names = namesIn(query)
      expect(names.length).toBeGreaterThan(0)
      expect(names.filter((name) => !known.has(name))).toEqual([])
    }
  )
})

/** The series of a node that is well, as promtool writes them: a value, for 20 minutes. */
const well: Readonly<Record<string, number>> = {
  'up{job="effect-realtime"}': 1,
  effect_realtime_link_up: 1,
  effect_realtime_reader_up: 1,
  effect_realtime_bus_up: 1,
  effect_realtime_reader_lag_seconds: 29,
  effect_realtime_consumer_lag_seconds: 59,
  effect_realtime_notification_queue_ratio: 0.5,
  effect_realtime_oldest_transaction_seconds: 3600
}

const gone = "_x80"
const steady = (value: number | string) => (typeof value === "number" ? `${value}x80` : value)

/** The alerts that may fire for the node `a`, by their labels. */
const firing = {
  isGone: {
    alertname: "RealtimeNodeIsGone",
    severity: "page",
    instance: "a",
    job: "effect-realtime"
  },
  hearsNothing: { alertname: "RealtimeHearsNoDatabase", severity: "page", instance: "a" },
  isLate: { alertname: "RealtimeIsLate", severity: "page", instance: "a" },
  isHeld: { alertname: "RealtimeDatabaseIsHeld", severity: "ticket" },
  isApart: { alertname: "RealtimeNodesAreApart", severity: "ticket", instance: "a" }
}

/** A failure of the node `a`, which begins at 0, and the alerts that fire for it after so many minutes. */
const failures: ReadonlyArray<{
  readonly what: string
  readonly series: Readonly<Record<string, number | string>>
  readonly fires: Readonly<Record<string, ReadonlyArray<(typeof firing)[keyof typeof firing]>>>
}> = [
  { what: "all is well", series: {}, fires: { "15m": [] } },
  {
    what: "a node is gone",
    series: {
      ...Object.fromEntries(Object.keys(well).map((name) => [name, gone])),
      'up{job="effect-realtime"}': 0
    },
    fires: { "45s": [], "15m": [firing.isGone] }
  },
  {
    what: "the link is down",
    series: { effect_realtime_link_up: 0 },
    fires: { "45s": [], "15m": [firing.hearsNothing] }
  },
  {
    what: "the link is down for 30 s",
    series: { effect_realtime_link_up: "1 0 0 1x77" },
    fires: { "45s": [], "2m": [], "15m": [] }
  },
  {
    what: "a node without a link has a reader that is down",
    series: { effect_realtime_link_up: gone, effect_realtime_reader_up: 0 },
    fires: { "15m": [firing.hearsNothing] }
  },
  {
    what: "PostgreSQL is away, and with it the bus",
    series: {
      effect_realtime_link_up: 0,
      effect_realtime_reader_up: 0,
      effect_realtime_bus_up: 0,
      effect_realtime_oldest_transaction_seconds: 0
    },
    fires: { "15m": [firing.hearsNothing] }
  },
  {
    what: "the reader is late",
    series: { effect_realtime_reader_lag_seconds: 31 },
    fires: { "1m45s": [], "15m": [firing.isLate] }
  },
  {
    what: "a consumer is late, of a node without a reader",
    series: {
      effect_realtime_reader_lag_seconds: gone,
      effect_realtime_reader_up: gone,
      effect_realtime_consumer_lag_seconds: 61
    },
    fires: { "1m45s": [], "15m": [firing.isLate] }
  },
  {
    what: "the notification queue fills",
    series: { effect_realtime_notification_queue_ratio: 0.51 },
    fires: { "4m45s": [], "15m": [firing.isHeld] }
  },
  {
    what: "a transaction is open for more than an hour",
    series: { effect_realtime_oldest_transaction_seconds: 3601 },
    fires: { "4m45s": [], "15m": [firing.isHeld] }
  },
  {
    what: "the bus alone is down",
    series: { effect_realtime_bus_up: 0 },
    fires: { "4m45s": [], "15m": [firing.isApart] }
  },
  {
    what: "a node has no bus, no link and no reader",
    series: {
      effect_realtime_bus_up: gone,
      effect_realtime_link_up: gone,
      effect_realtime_reader_up: gone,
      effect_realtime_reader_lag_seconds: gone
    },
    fires: { "15m": [] }
  }
]

/** A test of promtool: a node with a failure, and one that is well. */
const ruleTest = ({ fires, series, what }: (typeof failures)[number]) => ({
  name: what,
  interval: "15s",
  input_series: ["a", "b"].flatMap((instance) =>
    Object.entries(instance === "a" ? { ...well, ...series } : well).map(([name, value]) => ({
      series: name.includes("{")
        ? name.replace("}", `,instance="${instance}"}`)
        : `${name}{instance="${instance}"}`,
      values: steady(value)
    }))
  ),
  promql_expr_test: Object.entries(fires).map(([at, alerts]) => ({
    expr: 'ALERTS{alertstate="firing"}',
    eval_time: at,
    exp_samples: alerts.map((labels) => ({
      labels: `ALERTS{${Object.entries({ ...labels, alertstate: "firing" })
        .map(([name, value]) => `${name}="${value}"`)
        .join(",")}}`,
      value: 1
    }))
  }))
})

describe.skipIf(executablePath === undefined)("Prometheus", () => {
  it.live("fires the alert of each failure, after its time, and no other", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* temporary, "tests.yml")
      // YAML reads JSON.
      Fs.writeFileSync(
        file,
        JSON.stringify({
          rule_files: [Path.join(folder, "alerts.yml")],
          evaluation_interval: "15s",
          tests: failures.map(ruleTest)
        })
      )
      const tool = Path.join(Path.dirname(executablePath!), "promtool")
      const { status, stderr, stdout } = spawnSync(tool, ["test", "rules", file], {
        encoding: "utf8"
      })
      expect([status, stdout + stderr]).toEqual([0, expect.stringContaining("SUCCESS")])
      const rules = [...read(Path.join(folder, "alerts.yml")).matchAll(/- alert: (\w+)/g)]
      expect(Object.values(firing).map(({ alertname }) => alertname)).toEqual(
        rules.map(([, name]) => name)
      )
    }).pipe(Effect.scoped)
  )

  it("takes the alerts and the configuration", () => {
    const tool = Path.join(Path.dirname(executablePath!), "promtool")
    const checked = (...args: ReadonlyArray<string>) =>
      execFileSync(tool, ["check", ...args], { cwd: folder, encoding: "utf8" })
    expect(checked("rules", "alerts.yml")).toContain("SUCCESS: 5 rules found")
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
          /** The bus hears itself a moment after the link and the reader are up. */
          const isCalm = Effect.gen(function* () {
            yield* until("effect_realtime_bus_up", ([sample]) => sample?.value[1] === "1")
            for (const expr of alerts) expect(yield* query(expr), expr).toEqual([])
          })
          yield* until("effect_realtime_sessions", ([sample]) => sample?.value[1] === "2")
          // A rate is of two scrapes, and the outbox is read at the first look of the reader.
          yield* until("count_over_time(effect_realtime_outbox_rows[1m]) > 1", isFound)
          const empty: Array<string> = []
          for (const expr of queries) {
            if (!isFound(yield* query(expr))) empty.push(expr)
          }
          expect(empty).toEqual([])
          // An alert has an answer only while it holds, so its series are asked for.
          expect(alerts[0]).toBe(isGone)
          for (const name of alerts.flatMap(seriesIn)) {
            expect(yield* query(name), name).not.toEqual([])
          }
          yield* isCalm
          // PostgreSQL takes no session of the node until it is allowed again.
          const { name } = Context.get(node, TestDatabase)
          const allow = (may: boolean) =>
            execute(serverUrl(), `alter database ${name} allow_connections ${may}`)
          yield* allow(false)
          yield* execute(
            serverUrl(),
            `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`
          )
          const [, away] = alerts
          yield* until(away!, isFound)
          for (const expr of alerts)
            expect((yield* query(expr)).length > 0, expr).toBe(expr === away)
          yield* allow(true)
          yield* until(away!, (samples) => samples.length === 0)
          yield* isCalm
          const types = yield* query('count({__name__=~"effect_realtime_.*"})')
          expect(Number(types[0]?.value[1])).toBeLessThan(500)
          yield* Scope.close(scope, Exit.void)
          yield* until(isGone, isFound)
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
