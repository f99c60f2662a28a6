/**
 * The bus of a node: messages of its parts become envelopes on a carrier, and envelopes of other nodes
 * become messages of its parts.
 *
 * In: a carrier, and what the keys are made from. Out: the service `NodeBus`. The bus batches, encrypts,
 * numbers and probes; `KnownNodes` knows the other nodes. Nothing here is certain to arrive.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { errorText } from "../../../internal/errorText.ts"
import {
  type BusState,
  MessageTooLarge,
  type Node,
  NodeBus,
  type NodeChange,
  type Part,
  TopicTaken
} from "../../NodeBus.ts"
import * as metrics from "../metrics.ts"
import { Defects, Notices } from "../notices.ts"
import { busDropReasons, tally as tallyOfFiber } from "../tally.ts"
import { sqlMessage } from "../link/sqlState.ts"
import { Outage } from "../outage.ts"
import type { BusTimes } from "./busOptions.ts"
import type { Carrier } from "./carrier.ts"
import { CounterWindow } from "./counterWindow.ts"
import { maxOff, type Secrets } from "./dayKey.ts"
import * as Envelope from "./envelope.ts"
import { KnownNodes } from "./knownNodes.ts"
import { packed, type Parcel, Waiting } from "./outgoing.ts"
import { maxMessageBytes, Pieces } from "./pieces.ts"

/** What the keys are made from, and how to read it again. */
export interface Keys {
  /** `undefined` until they were read once. */
  readonly current: () => Secrets | undefined
  /** What a rotation of the secret keeps. Completes when it was read once. */
  readonly lasting: Effect.Effect<string>
  /** Reads them now: a text arrived that they do not decrypt. Fails never. */
  readonly again: Effect.Effect<void>
}

export interface BusNode {
  readonly self: Node
  readonly times: BusTimes
  /** Whether it hears and asks the nodes, and is none for them. */
  readonly isGuest?: boolean | undefined
}

/** Heartbeats in a row that may stay unheard by their own sender. */
const maxUnheard = 3

/** Milliseconds until a deaf bus opens another connection again. */
const renewEvery = 30_000

/** Milliseconds that a carrier has for one text. */
const sendTimeout = 5000

/** Texts that wait while the keys are read again. */
const maxDoubted = 64

/** Milliseconds between two reads of the keys because of a text. */
const doubtEvery = 1000

type DropReason = (typeof busDropReasons)[number]

/** What the log says of what the bus drops. The other reasons are usual. */
const drops: { readonly [Reason in DropReason]?: string } = {
  forged:
    "The bus received a message that no node of this database encrypted. Any role that can log in may send such, and it does nothing. If other nodes are missing, compare their secret: it is read from the database each 10 s.",
  late: `The bus dropped a message whose time is more than ${maxOff / 1000} s off. Set the clocks of the nodes: they do not hear each other otherwise.`,
  full: "The bus dropped a message of this node, because too many wait to be sent.",
  over: "The bus hears a node that has ended, or two running nodes have the same name. Give each node a name of its own."
}

export const make = (
  carrier: Carrier,
  keys: Keys,
  { isGuest = false, self, times }: BusNode
): Effect.Effect<NodeBus["Service"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const services = yield* Effect.context<never>()
    const runFork = Effect.runForkWith(services)
    const scope = yield* Effect.scope
    /** Milliseconds of the monotonic clock. */
    const mono = () => Number(clock.monotonicTimeNanosUnsafe() / 1000n) / 1000
    const now = () => clock.currentTimeMillisUnsafe()
    const state = yield* SubscriptionRef.make<BusState>("down")
    const tally = yield* tallyOfFiber
    yield* tally.show("busUp", () => (SubscriptionRef.getUnsafe(state) === "up" ? 1 : 0))
    const parts = new Map<string, Part>()
    const waiting = new Waiting()
    const some = Latch.makeUnsafe(false)
    const pieces = new Pieces()
    const own = new CounterWindow()
    let counter = 0
    let messageId = 0
    /** When this node last heard a heartbeat of its own, or got a connection. */
    let heardOwnAt = mono()
    /** Whether it heard one ever, and why the last one did not leave. */
    let heardOwn = false
    let unsent: string | undefined
    let renewedAt = -Infinity

    const log = (line: string): void => {
      runFork(Effect.annotateLogs(Effect.logWarning(line), "component", "effect-realtime bus"))
    }
    const said = new Notices()
    const say = (reason: string, line: string): void => {
      if (said.due(reason, mono()) !== undefined) log(line)
    }
    const count = yield* metrics.countBy(metrics.busDropped, "reason", busDropReasons)
    const dropped = (reason: DropReason, more = 1): void => {
      count(reason, more)
      const line = drops[reason]
      if (line !== undefined) say(reason, line)
    }

    /** Hands something to a part, whose faults are its own. */
    const hand = (topic: string, call: () => void): void => {
      try {
        call()
      } catch (defect) {
        say(`defect ${topic}`, `The part "${topic}" of this node failed: ${errorText(defect)}`)
      }
    }

    const changed = (change: NodeChange): void => {
      for (const [topic, part] of parts) hand(topic, () => part.changed?.(change))
    }
    const members = new KnownNodes(times, changed)
    /** They are no nodes, and what they sent is taken once as well. */
    const guests = new KnownNodes(times, () => undefined)
    yield* tally.show(
      "busNodes",
      () => members.list(mono()).filter((one) => one.state === "here").length
    )

    // --- receiving ---------------------------------------------------------------------------------

    const deliver = (entry: Envelope.BusEntry | undefined, from: Node): void => {
      if (entry === undefined) return dropped("malformed")
      if (entry.to !== undefined && entry.to !== self.incarnation) return
      const part = parts.get(entry.topic)
      if (part === undefined) return
      const receive = entry.kind === "beat" ? part.heard : part.receive
      hand(entry.topic, () => receive?.(entry.content, from))
    }

    const take = (envelope: Envelope.Envelope): void => {
      const { node, piece } = envelope
      if (Math.abs(envelope.time - now()) > maxOff) return dropped("late")
      if (node.incarnation === self.incarnation) {
        // Its own batches return as well, and a stranger may send them again.
        const isProbe = envelope.sort === "beat" || envelope.sort === "guest"
        if (own.accept(envelope.counter) && isProbe) heardSelf()
        return
      }
      const untaken = (envelope.sort === "guest" ? guests : members).hear(envelope, mono())
      if (untaken !== undefined) return dropped(untaken)
      metrics.busReceived.updateUnsafe(1, services)
      for (const entry of envelope.entries) deliver(entry, node)
      if (piece === undefined) return
      const whole = pieces.add(node, piece, mono())
      if (whole !== undefined) deliver(Envelope.entryOfBytes(whole), node)
    }

    /** Texts that no key decrypts, until the keys were read again. */
    let doubted: Array<string> = []
    const inDoubt = Latch.makeUnsafe(false)

    const hear = (text: string): void => {
      const secrets = keys.current()
      const envelope = secrets === undefined ? undefined : Envelope.unseal(secrets, text, now())
      if (envelope !== undefined) return take(envelope)
      if (doubted.length >= maxDoubted) return dropped("forged")
      doubted.push(text)
      inDoubt.openUnsafe()
    }

    const resolving = Effect.gen(function* () {
      yield* inDoubt.await
      yield* keys.again
      const secrets = keys.current()
      const texts = doubted
      doubted = []
      inDoubt.closeUnsafe()
      for (const text of texts) {
        const envelope = secrets === undefined ? undefined : Envelope.unseal(secrets, text, now())
        if (envelope === undefined) dropped("forged")
        else take(envelope)
      }
      yield* Effect.sleep(doubtEvery)
    })

    // --- sending -----------------------------------------------------------------------------------

    /** Sends envelopes one after the other; why one did not leave. */
    const sendAll = Effect.fnUntraced(function* (parcels: ReadonlyArray<Parcel>) {
      for (const parcel of parcels) {
        const secrets = keys.current()
        if (secrets === undefined) return "it has not read the secret of the database yet"
        const text = Envelope.seal(secrets, {
          ...parcel,
          sort: isGuest ? "guest" : parcel.sort,
          node: self,
          counter: counter++,
          time: now()
        })
        const why = yield* carrier.send(text).pipe(
          Effect.timeout(sendTimeout),
          Effect.as(undefined),
          Effect.catch((error) => Effect.succeed(sqlMessage(error)))
        )
        if (why !== undefined) {
          dropped("unsent")
          return why
        }
        metrics.busSent.updateUnsafe(1, services)
      }
      return undefined
    })
    const room = () => Envelope.roomIn(carrier.maxBytes(), self)
    const nextId = () => messageId++
    const flush = Effect.suspend(() => sendAll(packed(waiting.take(), room(), "batch", nextId)))

    const flushing = Effect.gen(function* () {
      yield* some.await
      yield* Effect.sleep(times.batchWindow)
      some.closeUnsafe()
      yield* flush
    })

    const post = (topic: string, content: unknown, to: Node | undefined): void => {
      if (to?.incarnation === self.incarnation) return
      const text = Envelope.entryText({ kind: "message", topic, content, to: to?.incarnation })
      const bytes = Buffer.byteLength(text)
      if (bytes > maxMessageBytes) {
        dropped("too-large")
        say("too-large", new MessageTooLarge({ topic, bytes, limit: maxMessageBytes }).message)
      } else if (waiting.add(text)) some.openUnsafe()
      else dropped("full")
    }

    // --- the heartbeat -----------------------------------------------------------------------------

    const outage = new Outage({
      lost: "The bus does not deliver",
      back: "The bus delivers: this node hears its own heartbeats",
      counts: false
    })
    const become = (next: BusState, why: string) =>
      Effect.gen(function* () {
        const before = yield* SubscriptionRef.get(state)
        if (before !== next) yield* SubscriptionRef.set(state, next)
        yield* next === "up" ? outage.recovered : outage.failing(why)
      }).pipe(Effect.annotateLogs("component", "effect-realtime bus"))

    const heardSelf = (): void => {
      heardOwnAt = mono()
      runFork(
        Effect.andThen(
          become("up", ""),
          Effect.sync(() => void (heardOwn = true))
        )
      )
    }

    const beats = (): ReadonlyArray<string> =>
      [...parts].flatMap(([topic, part]) => {
        let content: unknown
        hand(topic, () => (content = part.beat?.()))
        return content === undefined
          ? []
          : Envelope.entryText({ kind: "beat", topic, content, to: undefined })
      })

    const unheardLine = `it has a connection, but ${maxUnheard} heartbeats of this node did not return. The node opens another connection`
    const lostLine =
      "its connection is down. The line about the link to PostgreSQL, or about NATS, says why"
    const unsentLine = (why: string) => `this node cannot send its heartbeats: ${why}`

    const again = Latch.makeUnsafe(false)
    const beating = Effect.gen(function* () {
      again.closeUnsafe()
      unsent = "the last one has not left yet"
      unsent = yield* sendAll(packed(beats(), room(), "beat", nextId))
      yield* Effect.raceFirst(Effect.sleep(times.heartbeat), again.await)
    })

    const listenToSelf = Effect.gen(function* () {
      if (mono() - heardOwnAt < maxUnheard * times.heartbeat) return
      const connected = (yield* SubscriptionRef.get(carrier.state)) === "up"
      if (!connected) return yield* become("down", lostLine)
      if (unsent !== undefined) return yield* become("down", unsentLine(unsent))
      yield* become("deaf", unheardLine)
      if (mono() - renewedAt < renewEvery) return
      renewedAt = mono()
      yield* Effect.forkIn(carrier.renew, scope)
    })

    let sweptAt = mono()
    const sweepEvery = Math.max(1, times.heartbeat / 4)
    const sweep = Effect.suspend(() => {
      const time = mono()
      // After a pause of its process this node first hears what waits for it.
      const late = time - sweptAt > Math.max(500, 2 * sweepEvery)
      sweptAt = time
      if (late) return Effect.void
      members.sweep(time)
      guests.sweep(time)
      const incomplete = pieces.sweep(time)
      if (incomplete > 0) dropped("incomplete", incomplete)
      return listenToSelf
    })

    const defects = new Defects()
    const forever = (effect: Effect.Effect<unknown>) =>
      effect.pipe(
        Effect.catchDefect((defect) =>
          Effect.andThen(defects.logged("The bus", defect), Effect.sleep(times.heartbeat))
        ),
        Effect.forever,
        Effect.forkScoped
      )

    yield* carrier.receive(hear).pipe(
      Effect.catch((error) => Effect.logWarning(`The bus cannot listen: ${errorText(error)}`)),
      // A heartbeat from before it listened was in vain.
      Effect.andThen(Effect.sync(() => again.openUnsafe())),
      Effect.forkScoped
    )
    yield* SubscriptionRef.changes(carrier.state).pipe(
      Stream.runForEach((now) =>
        now === "down"
          ? // None before the first connection.
            heardOwn
            ? become("down", lostLine)
            : Effect.void
          : Effect.sync(() => {
              heardOwnAt = mono()
              again.openUnsafe()
            })
      ),
      Effect.forkScoped
    )
    yield* forever(beating)
    yield* forever(flushing)
    yield* forever(resolving)
    yield* forever(Effect.andThen(Effect.sleep(sweepEvery), sweep))
    // Registered last, so it runs first, while all the rest still works.
    yield* Effect.addFinalizer(() =>
      Effect.andThen(flush, isGuest ? Effect.void : sendAll([{ sort: "goodbye" }])).pipe(
        Effect.timeout(1000),
        Effect.ignore
      )
    )

    return NodeBus.of({
      self,
      state,
      secret: Effect.map(keys.lasting, (text) => Redacted.make(text)),
      nodes: Effect.sync(() => members.list(mono())),
      join: (topic, part) =>
        Effect.acquireRelease(
          Effect.gen(function* () {
            if (parts.has(topic)) return yield* new TopicTaken({ topic })
            parts.set(topic, part)
            for (const { incarnation, name, state } of members.list(mono())) {
              if (state !== "here") continue
              const node = { name, incarnation }
              hand(topic, () => part.changed?.({ change: "appeared", node }))
            }
            return (content, to) => post(topic, content, to)
          }),
          () => Effect.sync(() => void parts.delete(topic))
        )
    })
  })
