/**
 * Requests of a session for pages of what a channel had before.
 *
 * A page needs the right to subscribe, costs what a replay costs, and is read in the turn of the session's
 * replays. It may be larger than a mailbox takes, so it is sent when the socket takes bytes.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { ClientFrame, FrameOf } from "../../../Frame.ts"
import { encodeEvent, encodeHistory } from "../../../internal/frameText.ts"
import { isoOf } from "../hub/batch.ts"
import type { HistoryError, Past } from "../hub/delivery.ts"
import { Line } from "../hub/outgoing.ts"
import { type Refusal, refusalOf, RequestRefused } from "../limits/refusalText.ts"
import type { Port } from "./port.ts"
import { type Replays, Turn } from "./replays.ts"
import type { Grant, Rights, Wish } from "./rights.ts"
import { type SubscribeBudget, late } from "./subscribeBudget.ts"
import { logFailure } from "./subscribeFailure.ts"
import { textOf } from "./where.ts"

type HistoryFrame = FrameOf<ClientFrame, "history">

export class Histories {
  readonly #port: Port
  readonly #rights: Rights
  readonly #budget: SubscribeBudget
  readonly #replays: Replays

  constructor(port: Port, rights: Rights, budget: SubscribeBudget, replays: Replays) {
    this.#port = port
    this.#rights = rights
    this.#budget = budget
    this.#replays = replays
  }

  /** Counts a request. Returns the refusal of one that is too early. */
  want(): Refusal | undefined {
    return this.#budget.take()
  }

  /** Reads a page and answers. */
  answer(frame: HistoryFrame, wish: Wish, grant: Grant): Effect.Effect<void> {
    const { channel, id } = frame
    return this.#attempt(frame, wish, grant).pipe(
      Effect.catchCause((cause) =>
        Effect.as(
          logFailure(this.#port, channel, cause, "could not read its history"),
          refusalOf(Cause.squash(cause))
        )
      ),
      Effect.map((refused) => {
        if (refused !== undefined) this.#port.refuse(id, refused)
      })
    )
  }

  #attempt(
    frame: HistoryFrame,
    wish: Wish,
    grant: Grant
  ): Effect.Effect<Refusal | undefined, HistoryError | RequestRefused> {
    return Effect.gen({ self: this }, function* () {
      const turn = new Turn()
      let changed: Grant | undefined
      const refused = yield* Effect.gen({ self: this }, function* () {
        yield* this.#drained()
        yield* this.#replays.enter(wish.match, turn)
        const early = this.#budget.debt
        if (early !== undefined) return early
        const page = yield* this.#read(frame, wish, grant)
        this.#budget.charge(page.bytes)
        yield* this.#drained()
        return yield* this.#rights.hold(wish, grant, (valid) => {
          if (this.#port.ended) return Effect.succeed(refusalOf(undefined))
          // The client may see other rows than when the page was read.
          if (textOf(valid.boundary) === textOf(grant.boundary)) this.#send(frame, page)
          else changed = valid
          return Effect.undefined
        })
      }).pipe(Effect.ensuring(Effect.sync(() => this.#replays.leave(turn))))
      return changed === undefined ? refused : yield* this.#attempt(frame, wish, changed)
    })
  }

  #read(
    { before, limit }: HistoryFrame,
    { match }: Wish,
    { boundary }: Grant
  ): Effect.Effect<Past, HistoryError | RequestRefused> {
    const { context } = this.#port
    return Effect.timeoutOrElse(
      match.delivery.history(match.channel, { before, limit, boundary, wire: true }),
      {
        duration: context.limits.sourceTimeout,
        orElse: () => Effect.fail(asRefused(late(context, true)))
      }
    )
  }

  /** Completes when the socket takes bytes. */
  #drained(): Effect.Effect<void> {
    const { mailbox } = this.#port
    return Effect.suspend(() =>
      mailbox.blocked
        ? Effect.flatMap(
            Effect.callback<void>((resume) => {
              // It may take bytes since.
              if (!mailbox.blocked) return resume(Effect.void)
              return Effect.sync(mailbox.onFree(() => resume(Effect.void)))
            }),
            // The socket may be full again by now.
            () => this.#drained()
          )
        : Effect.void
    )
  }

  #send({ channel, id }: HistoryFrame, { events, more }: Past): void {
    const texts = events.map((event) =>
      encodeEvent(event.id, isoOf(event.at), event.json ?? "null", event.tx)
    )
    this.#port.answerWith(id, new Line(encodeHistory(id, channel, texts, more)))
  }
}

const asRefused = (refused: Refusal | RequestRefused): RequestRefused =>
  refused instanceof RequestRefused ? refused : new RequestRefused(refused)
