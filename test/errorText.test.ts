/** What has no text must not make an error's own message throw. */
import { expect, it } from "@effect/vitest"
import { Result } from "effect"
import * as Channel from "../src/Channel.ts"
import { errorText } from "../src/internal/errorText.ts"
import { SourceError } from "../src/server/NotificationSource.ts"

const textless: unknown = Object.create(null)

it.each([
  { thrown: new Error("down"), text: "down" },
  { thrown: "down", text: "down" },
  { thrown: Symbol("down"), text: "Symbol(down)" },
  { thrown: undefined, text: "undefined" },
  { thrown: textless, text: "an object without a text" }
])("the text of what was thrown is $text", ({ text, thrown }) => {
  expect(errorText(thrown)).toBe(text)
})

it("a source error whose cause has no text still has a message", () => {
  const error = new SourceError({ operation: "connect", cause: textless })
  expect(error.message).toContain("CONNECT failed: an object without a text.")
})

it("a payload is invalid when its toJSON throws an object without a text", () => {
  const payload = {
    toJSON: () => {
      throw textless
    }
  }
  const encoded = Channel.toJson(Channel.untyped("orders"), payload)
  expect(Result.isFailure(encoded) && encoded.failure.issue).toBe("an object without a text")
})
