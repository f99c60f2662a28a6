/**
 * Reports which optional programs this machine lacks, here because the output of a test file is
 * shown only when it fails. Starts the database servers of a test run and stops them at the end.
 * Embedded ones take half a second, so they start whether or not the selected tests need them.
 */
import { Effect, Exit, Scope } from "effect"
import { randomBytes } from "node:crypto"
import type { TestProject } from "vitest/node"
import { executablePath } from "./chromium.ts"
import { executablePath as natsServer } from "./natsServer.ts"
import { executablePath as pgbouncer } from "./pgbouncer.ts"
import { executablePath as prometheus } from "./prometheus.ts"
import { dropTemplate, servers } from "./database.ts"
import { makeCheaper } from "./cheaper.ts"
import { python } from "./python.ts"

if (executablePath === undefined) {
  console.warn(
    "SKIP browser tests: no Chromium found (apt-get install -y chromium, or set CHROMIUM_PATH)"
  )
}

if (pgbouncer === undefined) {
  console.warn(
    "SKIP PgBouncer tests: no PgBouncer found (apt-get install -y pgbouncer, or set PGBOUNCER_PATH)"
  )
}

if (natsServer === undefined) {
  console.warn(
    "SKIP tests of NATS: no nats-server found (apt-get install -y nats-server, or set NATS_SERVER_PATH)"
  )
}

if (prometheus === undefined) {
  console.warn(
    "SKIP tests of Prometheus: none found (apt-get install -y prometheus, or set PROMETHEUS_PATH)"
  )
}

if (python === undefined) {
  console.warn(
    "SKIP test of the Python client: no Python with websockets found (apt-get install -y python3-websockets, or set PYTHON_PATH)"
  )
}

export default async (project: TestProject): Promise<() => Promise<void>> => {
  makeCheaper(project.vitest.config.coverage.enabled)
  const scope = Scope.makeUnsafe()
  const { maxWorkers } = project.vitest.config
  const { cluster, urls } = await Effect.runPromise(Scope.provide(servers(maxWorkers), scope))
  const template = `template_${randomBytes(6).toString("hex")}`
  project.provide("serverUrls", urls)
  project.provide("template", template)
  project.provide("cluster", cluster)
  return () =>
    Effect.runPromise(
      Effect.ensuring(
        Effect.forEach(urls, (url) => dropTemplate(url, template), { discard: true }),
        Scope.close(scope, Exit.void)
      )
    )
}
