/**
 * Messages between nodes over a bad network: some are lost, doubled, or late, and so out of order.
 *
 * It stands above the carriers of a node, where messages arrive: each node loses others.
 */
import { Effect, Layer, type Scope } from "effect"
import { NatsConnection } from "effect-realtime/nats"
import { NotificationSource } from "effect-realtime/server"
import type { Random } from "../../server/support/random.ts"

/** The share of messages that suffer, each in its way. */
const share = { lost: 0.1, doubled: 0.1, late: 0.2 }
/** Milliseconds that a late message needs at most. */
const latest = 150

export class BadNetwork {
  /** Whether it is bad now. */
  bad = true
  readonly counts = { passed: 0, lost: 0, doubled: 0, late: 0 }
  readonly #dice: Random

  constructor(dice: Random) {
    this.#dice = dice
  }

  /** What hears, until the scope closes. */
  #through<Args extends ReadonlyArray<unknown>>(
    hear: (...args: Args) => void
  ): Effect.Effect<(...args: Args) => void, never, Scope.Scope> {
    const { chance, int } = this.#dice
    let open = true
    const deliver = (args: Args): void => {
      if (!this.bad || !chance(share.late)) return hear(...args)
      this.counts.late++
      setTimeout(() => open && hear(...args), int(latest))
    }
    return Effect.acquireRelease(
      Effect.succeed((...args: Args) => {
        if (this.bad && chance(share.lost)) return void this.counts.lost++
        this.counts.passed++
        deliver(args)
        if (!this.bad || !chance(share.doubled)) return
        this.counts.doubled++
        deliver(args)
      }),
      () => Effect.sync(() => (open = false))
    )
  }

  /** The connection of a node to NATS: its bus, the ticks and pages of its feed, and live channels. */
  overNats(options: NatsConnection.Options) {
    return Layer.effect(
      NatsConnection.NatsConnection,
      Effect.map(NatsConnection.make(options), (inner) =>
        NatsConnection.NatsConnection.of({
          ...inner,
          subscribe: (subject, hear) =>
            this.#through(hear).pipe(
              Effect.flatMap((hears) =>
                // The connection uses the bytes again.
                inner.subscribe(subject, (data, from) => hears(Buffer.from(data), from))
              )
            )
        })
      )
    )
  }

  /** The source beneath the bus of PostgreSQL, which loses nothing else by itself. */
  readonly beneathBus = Layer.effect(
    NotificationSource.NotificationSource,
    Effect.map(NotificationSource.NotificationSource, (inner) =>
      NotificationSource.NotificationSource.of({
        ...inner,
        listen: (channel, hear) =>
          this.#through(hear).pipe(Effect.flatMap((hears) => inner.listen(channel, hears)))
      })
    )
  )
}
