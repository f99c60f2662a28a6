/** The lines of the log in the words of the gateway: its flags, and the keys of its file. */
import type { LogWording } from "../../server/internal/limits/boundedLog.ts"
import { settings } from "./settings.ts"

/** What raises a limit: the setting, where it has one. */
const raise = (limit: string): string => {
  const one = settings.find(({ key }) => key === `limits.${limit}`)
  return one === undefined
    ? "add a gateway: this limit has no setting"
    : `raise --${one.flag} (in the file ${one.key})`
}

export const words: LogWording = {
  rules: new Map([
    [
      "auth/invalid",
      {
        text: "A client was refused: its token is not valid",
        cure: "Compare the secret or the keys, the issuer and the audience with those of the gateway"
      }
    ],
    ["auth/expired", { text: "A client was refused: its token had expired" }],
    [
      "channel/unknown",
      {
        text: "A client asked for a channel that this gateway does not serve",
        cure: "Add it with --live, --durable, --volatile, --presence or --table, or below channels or tables in the file; or compare the name with that of the client"
      }
    ],
    [
      "subscribe/invalid-where",
      {
        text: "A client asked for rows with a filter that its table does not have",
        cure: 'Name the column in "filter" of the table in the file, and start the gateway again'
      }
    ],
    [
      "publish undefined",
      {
        text: "A client may not publish to a channel that has no rule for it",
        cure: 'Give the channel a "publish" rule in the file, or --publish for the channels of flags, if they should'
      }
    ]
  ]),
  raise,
  origin: {
    origins: '--origin (in the file "origins")',
    trustProxy: '--trust-proxy (in the file "trustProxy")'
  }
}
