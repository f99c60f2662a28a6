/**
 * Rules: for each definition of a server, which clients may subscribe, and what their publishes become.
 *
 * They are functions of the server, and no part of a definition, so no page loads them. The types take
 * the parameter and the payload from the definition, and the identity from `authenticate`.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Channel from "../Channel.ts"

/**
 * The error with which a rule rejects a request. The client receives the message, so it must not contain
 * what the client may not know. Fail with it, throw it or return it.
 *
 * **Example** (A sentence for the user)
 *
 * ```ts
 * onPublish(Room, ({ identity, payload }) =>
 *   identity.muted ? new RealtimeServer.RuleRefused({ message: "You are muted." }) : payload
 * )
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class RuleRefused extends Schema.TaggedError<RuleRefused>()("RuleRefused", {
  /** The sentence that the client receives. */
  message: Schema.String
}) {}

/**
 * The result of a rule: the value, a Promise of it, or an Effect.
 *
 * @category models
 * @since 0.1.0
 */
export type RuleAnswer<A, R = never> =
  | A
  | RuleRefused
  | Promise<A | RuleRefused>
  | Effect.Effect<A, RuleRefused, R>

/**
 * A client that wants to subscribe, for a rule. `params` is the decoded parameter of a family, e.g. `"42"`;
 * a single channel has none.
 *
 * @category models
 * @since 0.1.0
 */
export type Subscribing<I, D extends Channel.Definition> = {
  /** The identity, as `authenticate` gave it; `undefined` on a server without `authenticate`. */
  readonly identity: I
  /** The name of the channel, e.g. `query_results_42`. */
  readonly channel: string
} & (D extends { readonly match: (name: string) => infer Member }
  ? { readonly params: Extract<Member, { readonly param: unknown }>["param"] }
  : unknown)

/**
 * A client that wants to publish, for a rule.
 *
 * @category models
 * @since 0.1.0
 */
export type Publishing<I, D extends Channel.Definition> = Subscribing<I, D> & {
  /** The decoded payload, as the client sent it. */
  readonly payload: Channel.Payload<D>
}

/**
 * A client that wants to be a member of a presence channel, or to change its state, for a rule.
 *
 * @category models
 * @since 0.1.0
 */
export type Presenting<I, D extends Channel.Definition> = Subscribing<I, D> & {
  /** The decoded state, as the client sent it. */
  readonly member: Channel.MemberOf<D>
}

/**
 * What a rule decides about.
 *
 * @category models
 * @since 0.1.0
 */
export type RuleAction = "subscribe" | "publish" | "present"

/**
 * An answer that allows a client to see some rows of a table: those whose columns have these values. The
 * server adds them to what the client asks for, and never tells the client. The columns are those of
 * `filter`, `boundary` and `by`.
 *
 * At least one column must be there, and no value may be missing: `{ where: {} }` and
 * `{ where: { team: undefined } }` are faults of the application, which allow nothing and are logged. An
 * empty list allows no row.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limited<W extends object = object> {
  /** A value for each column, a list of values, or `null`; values as the Schema of the row has them. */
  readonly where: W
}

/**
 * Whether a client may subscribe: `true`, or on a channel of a table the rows that it may see.
 *
 * @category models
 * @since 0.1.0
 */
export type Allowed<D = Channel.Definition> =
  | boolean
  | (D extends { readonly table: Channel.Table } ? Limited<Channel.Boundary<D>> : never)

/**
 * A rule for one definition of a server. Make it with `onSubscribe`, `onPublish` or `onPresent` of the option
 * `rules`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rule<
  out D extends Channel.Definition = Channel.Definition,
  out Action extends RuleAction = RuleAction,
  out R = unknown
> {
  /** What the rule decides about. */
  readonly action: Action
  /** The definition, as in `channels`. */
  readonly definition: D
  /** The function of the application. */
  readonly decide: (request: never) => RuleAnswer<unknown, R>
}

/**
 * Makes the rules of a server whose clients have identities of type `I`.
 *
 * @category models
 * @since 0.1.0
 */
export interface RuleMaker<I> {
  /**
   * Decides whether a client may subscribe to a channel of the definition, and which rows it may see. The
   * server asks again when the rights of the client may have changed.
   */
  readonly onSubscribe: <
    D extends Channel.Definition,
    Answer extends RuleAnswer<Allowed<D>, unknown>
  >(
    definition: D,
    decide: (request: Subscribing<I, D>) => Answer
  ) => Rule<D, "subscribe", Answer extends Effect.Effect<unknown, unknown, infer R> ? R : never>
  /**
   * Returns the payload as the server publishes it, for example with the sender that the server knows. It
   * must match the Schema of the definition.
   */
  readonly onPublish: <
    D extends Channel.Definition & { readonly publish: true },
    Answer extends RuleAnswer<Channel.Payload<D>, unknown>
  >(
    definition: D,
    decide: (request: Publishing<I, D>) => Answer
  ) => Rule<D, "publish", Answer extends Effect.Effect<unknown, unknown, infer R> ? R : never>
  /**
   * Returns the state that the other members see, for example with the name that the server knows. It must
   * match the Schema of the definition. The server asks again when the rights of the client may have changed;
   * a member that is rejected then leaves. `onSubscribe` decides which clients see the members.
   */
  readonly onPresent: <
    D extends Channel.Definition & { readonly delivery: "presence" },
    Answer extends RuleAnswer<Channel.MemberOf<D>, unknown>
  >(
    definition: D,
    decide: (request: Presenting<I, D>) => Answer
  ) => Rule<D, "present", Answer extends Effect.Effect<unknown, unknown, infer R> ? R : never>
}

/**
 * The rules of a server, which use services `R`.
 *
 * @category models
 * @since 0.1.0
 */
export type Rules<R = unknown> = ReadonlyArray<Rule<Channel.Definition, RuleAction, R>>

/**
 * The services that rules use.
 *
 * @category models
 * @since 0.1.0
 */
export type RuleServices<One> =
  One extends Rule<Channel.Definition, RuleAction, infer R> ? R : never

/** The name of a channel, or the prefix of a family and a star. */
type Name<D> = D extends Channel.AnyFamily
  ? `${D["prefix"]}*`
  : D extends Channel.Any
    ? D["name"]
    : never

/** Leaves out names that the compiler does not know. */
type Known<Names extends string> = Names extends string
  ? string extends Names
    ? never
    : `${string}*` extends Names
      ? never
      : Names
  : never

type Publishable<D> = D extends { readonly publish: true } ? D : never

type WithMembers<D> = D extends { readonly delivery: "presence" } ? D : never

type Ruled<List extends Rules, Action> = Name<
  Extract<List[number], { readonly action: Action }>["definition"]
>

/** What is wrong with a list of rules, as far as the compiler knows the names. */
type Faults<Defined, List extends Rules> =
  | `onSubscribe for ${Known<Exclude<Name<Defined>, Ruled<List, "subscribe">>>}`
  | `onPublish for ${Known<Exclude<Name<Publishable<Defined>>, Ruled<List, "publish">>>}`
  | `onPresent for ${Known<Exclude<Name<WithMembers<Defined>>, Ruled<List, "present">>>}`
  | `no rule for ${Known<Exclude<Name<List[number]["definition"]>, Name<Defined>>>}: it is not in channels`

/**
 * Rejects rules that leave out a definition, or are for a definition that the server does not serve. The
 * server checks them again at start.
 *
 * @internal
 * @category models
 * @since 0.1.0
 */
export type CompleteRules<Defined, List extends Rules> = [Faults<Defined, List>] extends [never]
  ? unknown
  : { readonly "The rules need": Faults<Defined, List> }
