/** Roles that a test makes for itself, and the URLs with which they log in. */
import { Effect } from "effect"
import { randomBytes } from "node:crypto"
import { execute, serverUrl } from "./database.ts"

/** A new role that may log in, dropped behind the database of the test. */
export const roleOf = (name: string) => {
  const role = `${name}_${randomBytes(4).toString("hex")}`
  return Effect.acquireRelease(
    Effect.as(execute(serverUrl(), `create role ${role} login`), role),
    () => Effect.orDie(execute(serverUrl(), `drop role if exists ${role}`))
  )
}

/** The URL for another user, with the same rights to log in. */
export const as = (url: string, user: string): string => {
  const there = new URL(url)
  if (there.searchParams.has("user")) there.searchParams.set("user", user)
  else there.username = encodeURIComponent(user)
  return there.href
}
