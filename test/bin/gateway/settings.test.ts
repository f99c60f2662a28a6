/** The settings of `serve`: their table in the guide, and each spelling of them. */
import { describe, expect, it } from "@effect/vitest"
import { jwtVerify } from "jose"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Config from "../../../src/bin/gateway/config.ts"
import { settings } from "../../../src/bin/gateway/settings.ts"

const root = Path.resolve(import.meta.dirname, "../../..")

const guide = Fs.readFileSync(Path.join(root, "examples/gateway/README.md"), "utf8")

const code = (text: string | undefined) => (text === undefined ? "" : `\`${text}\``)

describe("the settings of serve", () => {
  it("stand in one table of the guide, with flag, variable and key", () => {
    const rows = settings.map(
      ({ flag, key, variable, what }) =>
        `| ${code(flag === undefined ? undefined : `--${flag}`)} | \`${variable}\` | ${code(key)} | ${what} |`
    )
    expect(
      guide.split("\n").filter((line) => /^\|.*REALTIME_|DATABASE_URL` \|/.test(line))
    ).toEqual(rows)
  })

  it("have each key of the file, and no flag has a secret", () => {
    const known = Object.entries(Config.Config.fields).flatMap(([name, field]) => {
      const parts = Object(Object(field).schema).fields as object | undefined
      return parts === undefined ? [name] : Object.keys(parts).map((part) => `${name}.${part}`)
    })
    const keys = new Set(settings.map(({ key }) => key).filter((key) => key !== undefined))
    expect(known.toSorted()).toEqual([...keys].toSorted())
    const secrets = settings.filter(({ flag }) => flag === undefined).map(({ key }) => key)
    expect(secrets).toEqual(["jwt.secret", "nats.password", "nats.token"])
  })
})

describe("the guide of serve", () => {
  it("makes a token in a shell that the gateway accepts", async () => {
    const script = /<!-- tested: token -->\n```sh\n([^]*?)```/.exec(guide)![1]!
    const secret = "0123456789abcdef0123456789abcdef"
    const token = execFileSync("bash", ["-euc", script], {
      encoding: "utf8",
      env: { ...process.env, REALTIME_JWT_SECRET: secret }
    })
    const { payload } = await jwtVerify(token.trim(), new TextEncoder().encode(secret), {
      algorithms: ["HS256"],
      requiredClaims: ["exp"]
    })
    expect(payload).toMatchObject({ sub: "ann", team: "red" })
  })
})
