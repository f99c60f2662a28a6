/**
 * `publish` sends JSON to a channel: one payload from the arguments or from stdin, or one for each line of
 * stdin. The outbox checks a durable payload, the definition of the channel every one.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { Codec } from "../../ChannelBase.ts"
import { errorText } from "../../internal/errorText.ts"
import { PayloadTooLarge } from "../../RealtimeError.ts"
import { maxNotifyBytes } from "../../server/internal/hub/live.ts"
import { optionsOf, read } from "../../server/internal/reading/reading.ts"
import { publish } from "../../server/internal/outbox/outboxPublish.ts"
import {
  channelArgument,
  type Chosen,
  choose,
  deliveryFlag,
  withoutDelivery
} from "../shared/channels.ts"
import { inDatabase, type NeededRights, sentenceOf } from "../shared/cures.ts"
import { definitionsFlag } from "../shared/definitions.ts"
import { failed, wrongUsage } from "../shared/exit.ts"
import { databaseFlag, schemaFlag, switchFlag, textFlag } from "../shared/flags.ts"
import { say } from "../shared/output.ts"
import { progress } from "../shared/progress.ts"

/** The text as it travels: PostgreSQL keeps the spelling, and a line feed would end a frame. */
const checkedText = (chosen: Chosen, text: string, place: string) =>
  Effect.gen(function* () {
    const json = yield* Effect.try({
      try: () => JSON.parse(text) as unknown,
      catch: (error) => failed(`${place} is not JSON: ${errorText(error)}.`)
    })
    const decoded = chosen.channel.decode(json)
    if (Result.isFailure(decoded)) return yield* failed(`${place}: ${decoded.failure.message}`)
    const { name } = chosen.channel
    const codec = chosen.channel.codec as Codec<unknown>
    // As every reader of the channel does.
    const taken = read(codec, name, text, optionsOf(name, codec))
    if (Result.isFailure(taken)) {
      const { expected, path } = taken.failure
      return yield* failed(
        `${place}: Readers of channel "${name}" reject it. ${path === "" ? "It" : path} must be ${expected}.`
      )
    }
    return text.trim()
  })

const send = Effect.fnUntraced(function* (chosen: Chosen, json: string, key: string | undefined) {
  const { name } = chosen.channel
  const sql = yield* PgClient.PgClient
  if (chosen.delivery === "durable") return yield* publish(sql, name, json, key)
  const bytes = Buffer.byteLength(json)
  if (bytes > maxNotifyBytes) {
    return yield* new PayloadTooLarge({ channel: name, bytes, limit: maxNotifyBytes })
  }
  yield* sql`select pg_notify(${name}, ${json})`
})

/** To notify a live channel takes no right. */
const needs: NeededRights = "app"

const lines = Stdio.Stdio.useSync(({ stdin }) =>
  stdin.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.zipWithIndex,
    Stream.filter(([line]) => line.trim() !== "")
  )
)

const whole = Stdio.Stdio.use(({ stdin }) => Stream.mkString(Stream.decodeText(stdin)))

export const publishCommand = Command.make(
  "publish",
  {
    channel: channelArgument,
    payload: Argument.String("json").pipe(
      Argument.withDescription("The payload; without it, or as -, it is read from stdin"),
      Argument.optional
    ),
    key: textFlag("key").pipe(
      Flag.withMetavar("<text>"),
      Flag.withDescription(
        "On a durable channel the same payload with the same key is published once"
      ),
      Flag.optional
    ),
    lines: switchFlag("lines", "Each line of stdin is a payload"),
    delivery: deliveryFlag,
    definitions: definitionsFlag,
    schema: schemaFlag,
    database: databaseFlag
  },
  Effect.fnUntraced(
    function* (given) {
      const { channel: name } = given
      const payload = Option.filter(given.payload, (text) => text !== "-")
      const key = Option.getOrUndefined(given.key)
      if (given.lines && (Option.isSome(payload) || key !== undefined)) {
        return yield* wrongUsage("--lines reads payloads from stdin, and has no --key.")
      }
      const chosen = yield* choose({ ...given, name })
      if (chosen.isGuess) {
        return yield* withoutDelivery(name)
      }
      if (key !== undefined && chosen.delivery === "live") {
        return yield* wrongUsage(`Channel "${name}" is live, and --key is for durable channels.`)
      }
      if (given.lines) {
        const counting = yield* progress((count) => `${count} published`)
        let count = 0
        /** A second run of all lines would publish these again. */
        const stopped = (line: number) => (error: unknown) =>
          Effect.flatMap(sentenceOf(given, needs)(error), (sentence) => {
            const [first, ...lines] = sentence.split("\n")
            const before = `${count} before it ${count === 1 ? "is" : "are"} published: go on with line ${line}.`
            return Effect.fail(
              failed(
                lines.length === 0
                  ? `${first} ${before}`
                  : [`Line ${line}: ${before} ${first}`, ...lines].join("\n")
              )
            )
          })
        yield* Stream.runForEach(yield* lines, ([text, index]) =>
          checkedText(chosen, text, `Line ${index + 1}`).pipe(
            Effect.flatMap((json) => send(chosen, json, undefined)),
            Effect.andThen(Effect.suspend(() => counting.at(++count))),
            Effect.catch(stopped(index + 1))
          )
        )
        yield* counting.end
        return yield* say(`published ${count} to ${name} (${chosen.delivery})`)
      }
      const text = Option.isSome(payload) ? payload.value : yield* whole
      yield* send(chosen, yield* checkedText(chosen, text, "The payload"), key)
      yield* say(`published to ${name} (${chosen.delivery})`)
    },
    (effect, given) => inDatabase(given, needs)(effect)
  )
).pipe(
  Command.withDescription(
    "Publish JSON to a channel. A live channel is notified, a durable one written to the outbox."
  ),
  Command.withShortDescription("Publish JSON to a channel"),
  Command.withExamples([
    { command: `effect-realtime publish news '{"title":"Hello"}' --delivery live` },
    {
      command: "effect-realtime publish jobs --lines --delivery durable < jobs.jsonl",
      description: "One payload for each line"
    }
  ])
)
