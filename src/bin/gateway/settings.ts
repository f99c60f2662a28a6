/**
 * All settings of the gateway of one value, with the flag, the variable and the key of the file of each.
 *
 * `examples/gateway/README.md` has their table.
 */
import * as Flag from "effect/cli/Flag"
import { gateway as Defaults, limits, server } from "../../internal/defaults.ts"
import { usual } from "../../server/internal/sql/schemaName.ts"
import { natsSettings } from "../shared/nats.ts"
import {
  database,
  file,
  lasting,
  secret,
  type Setting,
  several,
  text,
  whole,
  word,
  yesOrNo
} from "../shared/setting.ts"

const isOpen = ["any", "signed-in"] as const

/** The settings, in the order of the help. */
export const settings: ReadonlyArray<Setting> = [
  file("config", {
    key: "none",
    what: "A file of JSON, whose keys are in the guide to the gateway"
  }),
  database("database", { variable: "DATABASE_URL", what: "The URL of the database" }),
  database("listen", {
    what: "The direct URL of the database where that leads through a transaction pooler"
  }),
  text("schema", "<name>", { what: `The schema of the installed objects, default ${usual}` }),
  text("host", "<address>", { what: `The address to listen on, default ${Defaults.host}` }),
  whole("port", { what: `Its port, default ${Defaults.port}; 0 picks a free one` }),
  text("path", "<path>", { what: "The path of the WebSocket, default /realtime" }),
  several("origin", "<origin>", {
    key: "origins",
    what: "A page that may connect, such as https://app.example.com, default those of the same origin; or any"
  }),
  whole("trust-proxy", {
    what: `How many proxies of your own are in front, default ${server.trustProxy}`
  }),
  text("name", "<name>", {
    what: "The name of this node in status and in logs, which no other has, default its host, process and four random characters"
  }),
  several("live", "<name>", { key: "channels", what: "A live channel" }),
  several("durable", "<name>", { key: "channels", what: "A durable channel" }),
  several("volatile", "<name>", { key: "channels", what: "A volatile channel" }),
  several("presence", "<name>", { key: "channels", what: "A presence channel" }),
  several("table", "<table[=channel]>", {
    key: "tables",
    what: "A table whose changes clients see, [schema.]name"
  }),
  word("read", isOpen, {
    key: "none",
    what: "Which clients may read the channels and tables of flags"
  }),
  word("publish", isOpen, {
    key: "none",
    what: "Which clients may publish to the channels of flags"
  }),
  yesOrNo(
    "allow-all",
    { what: "Every client may use what has no rule" },
    Flag.withoutNegation(Flag.Boolean("allow-all"))
  ),
  text("jwt-keys", "<url>", {
    key: "jwt.keys",
    what: "The https address of the keys that tokens are signed with"
  }),
  secret("jwt-secret", {
    key: "jwt.secret",
    what: "A secret of 32 bytes or more that they are signed with"
  }),
  text("jwt-issuer", "<text>", { key: "jwt.issuer", what: "The issuer of tokens, or any" }),
  text("jwt-audience", "<text>", { key: "jwt.audience", what: "The audience of tokens, or any" }),
  text("jwt-cookie", "<name>", {
    key: "jwt.cookie",
    what: "The cookie with the token of a client that sends none"
  }),
  ...natsSettings,
  whole("max-sessions", {
    key: "limits.maxSessions",
    what: `Sessions at most, default ${limits.maxSessions}`
  }),
  whole("max-sessions-per-identity", {
    key: "limits.maxSessionsPerIdentity",
    what: `Sessions of one user, default ${limits.maxSessionsPerIdentity}`
  }),
  whole("max-sessions-per-address", {
    key: "limits.maxSessionsPerAddress",
    what: `Sessions of one address, default ${limits.maxSessionsPerAddress}`
  }),
  whole("max-subscriptions", {
    key: "limits.maxSubscriptions",
    what: `Subscriptions of a session, default ${limits.maxSubscriptions}`
  }),
  whole("max-frame-bytes", {
    key: "limits.maxFrameBytes",
    what: `Bytes of a frame of a client, default ${limits.maxFrameBytes}`
  }),
  lasting("drain-timeout", {
    key: "limits.drainTimeout",
    what: `How long clients have to go at the end, default ${limits.drainTimeout / 1000} seconds`
  }),
  yesOrNo("install", {
    what: "Install what tables and durable channels need, where the role may, default yes; --no-install never does"
  })
]
