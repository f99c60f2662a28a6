/**
 * The members of a presence channel, as types: the definition of a presence channel brings what keeps its
 * members current, so that pages without one do not load it, and a client is its host.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { ServerFrame } from "../Frame.ts"
import type { InvalidChannelName, InvalidPayload } from "../RealtimeError.ts"

/**
 * One member of a presence channel: a person, or a device, as the definition counts. The same object until
 * its state changes. It is frozen, and so are the plain objects and arrays of its state.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member<out A> {
  /** Names the member while it is here. It reveals nothing else. */
  readonly id: string
  /** What the member shows. Of a person with several sessions, the newest. */
  readonly state: A
  /** Whether this client is that member. */
  readonly isMe: boolean
}

/**
 * The members of a presence channel, with how far to believe them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Members<out A> {
  /**
   * In the order in which this client first saw them. The same array until a member joins, changes or
   * leaves. With `named: false` it has this client's own member only.
   */
  readonly members: ReadonlyArray<Member<A>>
  /** How many members are here, also while they are not named. */
  readonly count: number
  /** `false` where so many are here that the server sends only their number. Default of the server: over 1,000. */
  readonly named: boolean
  /** This client's own member, while the server shows it to the others. */
  readonly me: Member<A> | undefined
  /**
   * - `loading`: the members are not here yet.
   * - `live`: these are the members.
   * - `stale`: these were the members. The link is away, or the server rejected the channel for now
   *   (`error` is a `Refused` with `retryAfter`). The client goes on by itself.
   * - `error`: nothing follows (`error` is `Refused`, `InvalidChannelName` or `ConnectionStopped`).
   */
  readonly status: "loading" | "live" | "stale" | "error"
  /** Why the members are not `live`, or why the server rejected the own state (`Refused`). */
  readonly error: unknown
  /** The members whose states do not match the Schema: they are counted, and left out of `members`. */
  readonly invalid: ReadonlyArray<string>
}

/**
 * The members with a way to show a state of one's own.
 *
 * @category models
 * @since 0.1.0
 */
export interface Shown<A> extends Members<A> {
  /**
   * Shows a state to the others, and with `undefined` none: the client leaves and goes on to watch. At most 5
   * changes in a second are sent, the newest always. Resolves when the server has taken this state or a newer
   * one, also after a reconnect, or when nothing is shown any more. Rejects with `InvalidPayload` for a state
   * that does not match, with `Refused` when the server rejects it, and with `ConnectionStopped`. A caller may
   * ignore the promise. The same function in every snapshot.
   */
  readonly update: (state: A | undefined) => Promise<void>
}

/**
 * The members for as long as there are subscribers, which are called back after each change, at most once in
 * a frame (in Node and in a hidden page: once in 100 ms). The client's own state is shown as long.
 *
 * @category models
 * @since 0.1.0
 */
export interface Presence<A> {
  /** The members now; the same object until something changes. */
  readonly getSnapshot: () => Shown<A>
  /** Calls back after each change; gives back the way to stop. */
  readonly subscribe: (onChange: () => void) => () => void
  /** No members, `loading`, always the same: for rendering on a server, and for hydration. */
  readonly getServerSnapshot: () => Shown<A>
  /** As in the snapshot. */
  readonly update: (state: A | undefined) => Promise<void>
}

/**
 * A client's own member of a presence channel.
 *
 * @category models
 * @since 0.1.0
 */
export interface Own<in A, out E> {
  /**
   * Shows another state. At most 5 changes in a second are sent, the newest always. Succeeds when the server
   * has taken this state or a newer one, also after a reconnect. When it fails, the member shows what it
   * showed before.
   */
  readonly update: (state: A) => Effect.Effect<void, E | InvalidPayload>
}

/** The part of a presence channel that is used here. */
export interface PresenceChannel {
  readonly name: string
  readonly codec: object
  readonly fault: InvalidChannelName | undefined
  readonly decode: (json: unknown) => Result.Result<unknown, InvalidPayload>
  readonly encode: (state: never) => Result.Result<unknown, InvalidPayload>
}

/** Why nothing follows. */
export type Over = InvalidChannelName | { readonly _tag: string }

/** What is called while a connection opens and closes; see `Above` of the client. */
interface Wing {
  readonly needed: () => boolean
  readonly open: () => void
  readonly receive: (frame: ServerFrame) => void
  readonly down: () => void
  readonly end: (error: Over) => void
}

/** The part of a refusal that is used here. */
export type RefusalFields = Omit<Extract<ServerFrame, { readonly type: "error" }>, "type" | "id">

/** The part of a client's connection that is used here. */
interface PresenceConnection {
  readonly state: {
    readonly getSnapshot: () => { readonly status: string }
    readonly subscribe: (onChange: () => void) => () => void
  }
  readonly look: () => void
  readonly request: (
    frame:
      | { readonly type: "subscribe" | "unsubscribe" | "absent"; readonly channel: string }
      | { readonly type: "present"; readonly channel: string; readonly member: unknown },
    onAnswer: (frame: ServerFrame) => void
  ) => void
  readonly refused: (channel: string, refusal: RefusalFields) => Over | undefined
  readonly stopped: () => Over | undefined
  readonly linger: number
  readonly jitter: (failures: number) => number
  readonly resetAfter: number
}

/** What a client has for the members of its channels. */
export interface PresenceHost {
  readonly connection: PresenceConnection
  /** The error of a refusal that is over after so many milliseconds. */
  readonly refusedOf: (channel: string, refusal: RefusalFields, retryAfter: number) => unknown
  /** Has the connection call one more, from now on. */
  readonly enlist: (wing: Wing) => void
  readonly now: () => number
  /** Calls after so many milliseconds; calling the result prevents it. */
  readonly after: (millis: number, run: () => void) => () => void
  /** What runs in the next frame, in one callback. */
  readonly due: Array<() => void>
  /** Made with the first presence channel that is used. */
  rooms?: Rooms | undefined
}

/** The rooms of a client: finds one by the name of its channel, or makes it. `mine` may have been dropped. */
export type Rooms = (name: string, mine?: Room) => Room

export interface MembersWatcher {
  /** The members or their status may have changed. */
  readonly onChange: () => void
  /** Nothing follows. */
  readonly onEnd: (error: Over) => void
}

/** A member as the wire has it; another object when its state is another one. */
export interface WireMember {
  readonly text: string
  readonly data: unknown
}

/** The state that one user of a client shows. */
export interface Holder {
  readonly show: (json: string) => Promise<void>
  readonly leave: () => void
}

/** A presence channel of a client: one subscription on the wire, and at most one member of its own. */
export interface Room {
  /** What changes with each change. */
  readonly now: () => {
    readonly entries: ReadonlyMap<string, WireMember>
    readonly count: number
    readonly named: boolean
    readonly me: string | undefined
    readonly status: Members<unknown>["status"]
    readonly error: unknown
  }
  /** Follows the members; gives the way to leave. */
  readonly watch: (watcher: MembersWatcher) => () => void
  /** Shows a state beside those of others, the newest of which counts. */
  readonly hold: () => Holder
  /** Sends now what is to be sent, and not at the end of this turn. */
  readonly drive: () => void
  /** What the definitions that use the room make of it, by their codecs. */
  readonly views: Map<object, View>
}

/** The members of a room, decoded for one definition. */
export interface View {
  readonly room: Room
  readonly shown: () => Members<unknown>
}

/** What the definition of a presence channel brings. */
export interface PresenceKeeper {
  /** Follows the members, and hands them out now and after each change. Gives the way to leave. */
  readonly follow: (
    host: PresenceHost,
    channel: PresenceChannel,
    onMembers: (members: Members<unknown>) => void,
    onEnd: (error: never) => void
  ) => () => void
  /** Shows a state until the scope ends. */
  readonly present: (
    host: PresenceHost,
    channel: PresenceChannel,
    state: unknown
  ) => Effect.Effect<Own<unknown, never>, never, Scope.Scope>
  /** The members as a value that changes once in a frame. */
  readonly collect: (
    host: PresenceHost,
    channel: PresenceChannel,
    state: unknown
  ) => Presence<unknown>
}
