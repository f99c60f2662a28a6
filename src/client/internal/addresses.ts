/**
 * The addresses of a client: which one the next attempt has.
 *
 * In: the option `url`, and when the client leaves an address. Out: an address. A list is in an order of this
 * client, so that clients spread over the nodes, also when one of them is lost.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { UrlFailed } from "../ClientError.ts"
import type { Options, Url } from "../Connection.ts"
import * as Asked from "./asked.ts"
import { resolveUrl } from "./platform.ts"
import type { Time } from "./time.ts"

export interface Addresses extends Asked.Asked {
  /** The address of the next attempt. */
  readonly current: () => string
  /** The next attempt has the next address. Returns whether that is another one. */
  readonly leave: () => boolean
}

/** The addresses, if all of them can be used on some page. Throws the first that cannot, in words. */
const listOf = (given: Url): ReadonlyArray<string> => {
  const all = [...new Set([given].flat())]
  let url: string | undefined
  try {
    for (url of all) if (!/^wss?:/.test(resolveUrl(url, "http://page"))) throw url
    if (url === undefined) throw url
    return all
  } catch {
    throw `${JSON.stringify(url)} is no ws, wss, http, https or relative address`
  }
}

/** Fails where an address that does not change cannot be used. */
export const check = (url: Options["url"]): Effect.Effect<unknown, UrlFailed> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(typeof url === "function" || listOf(url))
    } catch (cause) {
      return Effect.fail(new UrlFailed({ cause }))
    }
  })

export const make = (
  { url }: Pick<Options, "url">,
  time: Time,
  tell: NonNullable<Options["onError"]>
): Addresses => {
  let latest: string | undefined
  /** With the random numbers that order them. */
  let all: ReadonlyArray<readonly [number, string]> = []
  let index = 0
  const take = (given: Url) => {
    // The same list again has the same order.
    if (latest === String(given)) return
    all = listOf(given)
      .map((url) => [time.runSync(Random.next), url] as const)
      .toSorted(([one], [other]) => one - other)
    latest = String(given)
  }
  if (typeof url !== "function") take(url)
  return {
    ...Asked.make(url as Extract<typeof url, Function>, take, time, tell, "address", UrlFailed),
    current: () => all[index % all.length]![1],
    leave: () => {
      index++
      return all.length > 1
    }
  }
}
