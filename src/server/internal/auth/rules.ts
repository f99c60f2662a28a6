/**
 * The rules of a door: exactly one for each definition and action, checked at start, and called with the
 * fields that their types promise.
 */
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import { InvalidOption, invalid } from "../options.ts"
import {
  type Rule,
  type RuleAction,
  type RuleAnswer,
  type RuleMaker,
  RuleRefused,
  type Rules
} from "../../Rule.ts"
import type { Request } from "../../ServerOptions.ts"
import { eventually } from "./eventually.ts"

/** The options of a door that has rules. */
interface Ruled {
  readonly channels: ReadonlyArray<Channel.Definition>
  readonly rules: (make: RuleMaker<never>) => Rules
}

/** The rule of a definition for an action. */
export type RuleOf = (definition: Channel.Definition, action: RuleAction) => Rule | undefined

/** The name of a channel, or the prefix of a family and a star, for people. */
export const nameOf = (definition: Channel.Definition): string =>
  definition._tag === "Channel" ? definition.name : `${definition.prefix}*`

const words = {
  subscribe: "onSubscribe",
  publish: "onPublish",
  present: "onPresent"
} as const satisfies Record<RuleAction, string>

/** A rule, for the log. */
export const ruleName = (definition: Channel.Definition, action: RuleAction): string =>
  `${words[action]} for "${nameOf(definition)}"`

const maker: RuleMaker<never> = {
  onSubscribe: (definition, decide) => ({ action: "subscribe", definition, decide }),
  onPublish: (definition, decide) => ({ action: "publish", definition, decide }),
  onPresent: (definition, decide) => ({ action: "present", definition, decide })
}

const wrong = (what: string): InvalidOption =>
  new InvalidOption({
    option: "rules",
    value: `a list ${what}`,
    expected:
      "a list with one onSubscribe for each definition of channels, one onPublish for each that has publish, and one onPresent for each presence channel"
  })

const isRule = (value: unknown): value is Rule =>
  typeof value === "object" &&
  value !== null &&
  "action" in value &&
  Object.hasOwn(words, String(value.action)) &&
  "definition" in value &&
  "decide" in value &&
  typeof value.decide === "function"

/** Throws `InvalidOption` if a rule is missing, is there twice, or belongs to no channel. */
export const readRules = ({ channels, rules: write }: Ruled): RuleOf => {
  const rules: unknown = write(maker)
  if (!Array.isArray(rules))
    throw invalid("rules", rules, "a function that returns a list of rules")
  const found = {
    subscribe: new Map<Channel.Definition, Rule>(),
    publish: new Map<Channel.Definition, Rule>(),
    present: new Map<Channel.Definition, Rule>()
  }
  for (const [index, rule] of (rules as ReadonlyArray<unknown>).entries()) {
    if (!isRule(rule)) {
      throw invalid(`rules[${index}]`, rule, "a rule that onSubscribe, onPublish or onPresent made")
    }
    const { action, definition } = rule
    const name = ruleName(definition, action)
    if (!channels.includes(definition)) throw wrong(`with ${name}, which is not in channels`)
    if (found[action].has(definition)) throw wrong(`with two ${name}`)
    if (action === "publish" && !definition.publish) {
      throw wrong(`with ${name}, which has no publish`)
    }
    if (action === "present" && definition.delivery !== "presence") {
      throw wrong(`with ${name}, which has no members`)
    }
    found[action].set(definition, rule)
  }
  for (const definition of channels) {
    const needed: ReadonlyArray<RuleAction> = [
      "subscribe",
      ...(definition.publish ? (["publish"] as const) : []),
      ...(definition.delivery === "presence" ? (["present"] as const) : [])
    ]
    const missing = needed.find((action) => !found[action].has(definition))
    if (missing !== undefined) throw wrong(`without ${ruleName(definition, missing)}`)
  }
  return (definition, action) => found[action].get(definition)
}

/** Calls the rule for a request, with the payload of a publish or the state of a member. */
export const askRule = <R>(
  ruleOf: RuleOf,
  { action, channel, definition, identity, params }: Request<unknown>,
  more?: { readonly payload: unknown } | { readonly member: unknown }
): Effect.Effect<unknown, RuleRefused, R> => {
  const rule = ruleOf(definition, action)
  if (rule === undefined)
    return Effect.die(new Error(`There is no ${ruleName(definition, action)}`))
  const parameter = definition._tag === "Family" ? { params } : {}
  // The rule was made for this definition, so the request has the type that it takes.
  const request = { identity, channel, ...parameter, ...more } as never
  return Effect.flatMap(
    // The types of the door require the services of its rules.
    eventually(() => rule.decide(request) as RuleAnswer<unknown, R>, RuleRefused),
    (answer) => (answer instanceof RuleRefused ? Effect.fail(answer) : Effect.succeed(answer))
  )
}
