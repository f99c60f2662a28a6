/**
 * Follows a channel with the guarantees of a consumer in a server, and prints what arrives.
 *
 * Each durable event is printed with the cursor from which the next run goes on. What is no event, such as
 * where it began and where it ended, is on stderr.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import type { RealtimeEvent } from "../../../RealtimeEvent.ts"
import { parseDurable } from "../../../internal/cursorText.ts"
import * as NotificationSource from "../../../server/NotificationSource.ts"
import * as OutboxReader from "../../../server/OutboxReader.ts"
import * as PgNotificationSource from "../../../server/PgNotificationSource.ts"
import * as Realtime from "../../../server/Realtime.ts"
import { type Chosen, choose, withoutDelivery } from "../../shared/channels.ts"
import { inDatabase } from "../../shared/cures.ts"
import type { Place } from "../../shared/database.ts"
import { failed, untilSignal, wrongUsage } from "../../shared/exit.ts"
import { say, tell } from "../../shared/output.ts"
import { styles } from "../../shared/styles.ts"
import { gapCause } from "./gaps.ts"

interface Given extends Place {
  readonly channel: string
  readonly from: Option.Option<string>
  readonly cursorFile: Option.Option<string>
  readonly limit: Option.Option<number>
  readonly json: boolean
  readonly delivery: Option.Option<"durable" | "live">
  readonly definitions: ReadonlyArray<string>
  readonly listen: Option.Option<Redacted.Redacted>
}

/** How long a refusal of PostgreSQL must last before the command ends. */
const startPatience = "500 millis"

/** A batch of several events as one for each, so that each has a cursor. */
const oneByOne = (item: OutboxReader.Item): ReadonlyArray<OutboxReader.Item> =>
  item._tag !== "Batch"
    ? [item]
    : item.events.map((event, index) => ({
        ...item,
        from: index === 0 ? item.from : item.cursorAt(index - 1),
        cursor: item.cursorAt(index),
        events: [event],
        cursorAt: () => item.cursorAt(index)
      }))

const layerOneByOne = Layer.effect(
  OutboxReader.OutboxReader,
  OutboxReader.OutboxReader.useSync((reader) =>
    OutboxReader.OutboxReader.of({
      ...reader,
      batches: (channel, options) =>
        Stream.flattenIterable(Stream.map(reader.batches(channel, options), oneByOne))
    })
  )
)

/** A reader that changes nothing in the database, or a link. */
const layerOf = (
  { delivery }: Chosen,
  schema: string,
  direct: Redacted.Redacted | undefined
): Layer.Layer<Realtime.Realtime, unknown, PgClient> =>
  delivery === "durable"
    ? Realtime.layerDurable().pipe(
        Layer.provideMerge(layerOneByOne),
        Layer.provide(OutboxReader.layer({ schema, upkeep: false, startPatience, readUrl: direct }))
      )
    : Realtime.layer({ announceSource: false }).pipe(
        Layer.provideMerge(PgNotificationSource.layer({ startPatience, listenUrl: direct }))
      )

/** Events until the reader or the link finds that waiting cannot help. */
const itemsOf = ({ channel, routeOf }: Chosen, from: string | undefined) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const reader = yield* Effect.serviceOption(OutboxReader.OutboxReader)
      if (Option.isSome(reader) && routeOf !== undefined) yield* reader.value.routed(routeOf)
      const source = yield* Effect.serviceOption(NotificationSource.NotificationSource)
      const items = Realtime.batches(channel, { from })
      const refused: Effect.Effect<never, unknown> | undefined = Option.isSome(reader)
        ? reader.value.refused
        : Option.getOrUndefined(source)?.refused
      return refused === undefined ? items : Stream.merge(items, Stream.fromEffect(refused))
    })
  )

interface Printed {
  /** `why`: the cause of a gap, where it is known. */
  readonly event: (
    event: RealtimeEvent<unknown>,
    cursor: string | undefined,
    why: string | undefined
  ) => string
  readonly position: (cursor: string) => string | undefined
}

const asJson: Printed = {
  event: (event, cursor, why) =>
    JSON.stringify(
      event._tag === "Gap"
        ? { type: "gap", channel: event.channel, reason: event.reason, why, cursor }
        : {
            type: "event",
            channel: event.channel,
            id: event.id,
            at: event.at,
            tx: event.tx,
            payload: event.payload,
            cursor
          }
    ),
  position: (cursor) => JSON.stringify({ type: "cursor", cursor })
}

const pretty = TerminalCapabilities.useSync(({ canColor }): Printed => {
  const { bold, dim, yellow } = styles(canColor)
  return {
    event: (event, _, why) =>
      event._tag === "Gap"
        ? yellow(
            `gap ${event.reason}: events may be missing here, re-read the state${why === undefined ? "" : ` (${why})`}`
          )
        : `${dim(event.at.toISOString())}  ${bold(event.id)}  ${JSON.stringify(event.payload)}`,
    position: () => undefined
  }
})

const readCursor = (file: string) =>
  FileSystem.FileSystem.use((files) =>
    files.readFileString(file).pipe(
      Effect.map((text) => text.trim() || undefined),
      Effect.catchIf(
        ({ reason }) => reason._tag === "NotFound",
        // Fails now where it could not be written later.
        () => Effect.as(files.writeFileString(file, ""), undefined)
      ),
      Effect.mapError(() =>
        wrongUsage(
          `--cursor-file: ${file} cannot be read and written. Give a file in a folder of yours.`
        )
      )
    )
  )

/** Refuses what is no cursor: the reader would begin with a gap, from now on. */
const checkedFrom = (from: string | undefined, given: string) =>
  from === undefined || from === "oldest" || parseDurable(from) !== undefined
    ? Effect.succeed(from)
    : Effect.fail(
        wrongUsage(
          `${given} has no cursor of a durable channel. Give one that tail printed, or oldest.`
        )
      )

/** In two steps, so that a crash leaves the old cursor or the new one. */
const writeCursor = (file: string, cursor: string) =>
  FileSystem.FileSystem.use((files) =>
    Effect.andThen(
      files.writeFileString(`${file}.new`, `${cursor}\n`),
      files.rename(`${file}.new`, file)
    )
  )

export const follow = Effect.fnUntraced(
  function* (given: Given) {
    const { channel: name } = given
    const chosen = yield* choose({ ...given, name })
    if (chosen.isGuess) return yield* withoutDelivery(name)
    const isDurable = chosen.delivery === "durable"
    const file = Option.getOrUndefined(given.cursorFile)
    if (!isDurable && (Option.isSome(given.from) || file !== undefined)) {
      return yield* wrongUsage(
        `Channel "${name}" is live: no event of it is kept, so it has no --from and no --cursor-file.`
      )
    }
    const flag = Option.getOrUndefined(given.from)
    const kept = file === undefined ? undefined : yield* readCursor(file)
    const from = yield* flag === undefined
      ? checkedFrom(kept, `--cursor-file: ${file}`)
      : checkedFrom(flag, "--from")
    yield* tell(`following ${name} (${chosen.delivery})`)
    const { event, position } = given.json ? asJson : yield* pretty
    const at = yield* Ref.make(from)
    let left = Option.getOrElse(given.limit, () => Number.POSITIVE_INFINITY)
    /** The causes of the gaps of a batch, in their order. */
    const causesOf = Effect.fnUntraced(function* ({ events }: Realtime.EventBatch<unknown>) {
      const reader = Option.getOrUndefined(yield* Effect.serviceOption(OutboxReader.OutboxReader))
      const before = yield* Ref.get(at)
      return yield* Effect.forEach(events, (one) =>
        one._tag === "Gap"
          ? gapCause(reader, one.channel, one.reason, before)
          : Effect.succeed(undefined)
      )
    })
    const print = Effect.fnUntraced(function* (
      batch: Realtime.EventBatch<unknown>,
      causes: ReadonlyArray<string | undefined>
    ) {
      const cursor = isDurable ? batch.cursor : undefined
      for (const [index, one] of batch.events.entries()) {
        if (left === 0) return
        left--
        yield* say(event(one, isDurable ? one.cursor : undefined, causes[index]))
      }
      if (cursor === undefined) return
      const line = batch.events.length === 0 ? position(cursor) : undefined
      if (line !== undefined) yield* say(line)
      yield* Ref.set(at, cursor)
      if (file !== undefined) yield* writeCursor(file, cursor)
    })
    yield* untilSignal
    yield* itemsOf(chosen, from).pipe(
      // A signal between the two would print an event again in the next run.
      Stream.tap((batch) =>
        Effect.flatMap(causesOf(batch), (causes) => Effect.uninterruptible(print(batch, causes)))
      ),
      Stream.takeUntil(() => left === 0),
      Stream.runDrain,
      Effect.ensuring(
        Effect.flatMap(Ref.get(at), (cursor) =>
          cursor === undefined ? Effect.void : tell(`go on with --from ${cursor}`)
        )
      ),
      Effect.provide(layerOf(chosen, given.schema, Option.getOrUndefined(given.listen)))
    )
    if (left > 0) return yield* failed(`Channel "${name}" ended.`)
  },
  (effect, given) => inDatabase(given, "node")(effect)
)
