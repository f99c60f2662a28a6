/**
 * JSON whose numbers keep their digits.
 *
 * In: JSON text that another program wrote, such as `row_to_json`. Out: what `JSON.parse` gives, except
 * that a number that a double cannot hold exactly is a string with the same digits. A Schema, such as
 * those of `effect-realtime/pg-type`, decodes these strings.
 *
 * @since 0.1.0
 */
export { isExact, type Options, parse, rewrite } from "./internal/exact.ts"
