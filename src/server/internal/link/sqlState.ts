/** The error of PostgreSQL: the driver keeps it in the cause of the reason of its own error. */
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { errorText } from "../../../internal/errorText.ts"

const causeOf = (error: SqlError): Partial<Record<"code" | "message", unknown>> =>
  typeof error.reason.cause === "object" && error.reason.cause !== null ? error.reason.cause : {}

/** The five characters of SQLSTATE, or `undefined` when the error is not PostgreSQL's. */
export const sqlState = (error: unknown): string | undefined => {
  if (!isSqlError(error)) return undefined
  const { code } = causeOf(error)
  return typeof code === "string" ? code : undefined
}

/** The message of PostgreSQL or of the socket. */
export const sqlMessage = (error: unknown): string => {
  if (!isSqlError(error)) return errorText(error)
  const { message } = causeOf(error)
  return typeof message === "string" ? message : error.message
}

/** The schema, one of its tables, functions or columns does not exist. */
export const isMissing = (error: unknown): boolean =>
  ["3F000", "42P01", "42883", "42703"].includes(sqlState(error) ?? "")

/**
 * What a watch asks for cannot be: the installed functions raise it, or its table or a part of its condition
 * does not exist. That the objects in this schema are missing says nothing about a watch.
 */
export const ofWatch = (error: unknown, schema: string): boolean =>
  sqlState(error)?.startsWith("RT") === true ||
  (isMissing(error) &&
    ![`schema "${schema}" `, `relation "${schema}.watched" `, `function ${schema}.`].some((start) =>
      sqlMessage(error).startsWith(start)
    ))

/** PostgreSQL refused for want of a right. */
export const isForbidden = (error: unknown): boolean => sqlState(error) === "42501"

/** A standby rejected what only the primary does, also at the moment of its promotion. */
export const isStandby = (error: unknown): boolean => sqlState(error) === "25006"

/**
 * Whether the statement would fail the same way for ever because of its values: class 22 (data), 23
 * (constraints), 54 (nested too deep, too large).
 */
export const isDataFault = (error: unknown): boolean =>
  ["22", "23", "54"].includes(sqlState(error)?.slice(0, 2) ?? "")
