/** The app's pool for a test: records every page of a replay that is read on it. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer } from "effect"

export interface Page {
  readonly channel: string
  /** Characters of payload. */
  readonly text: number
}

/**
 * The client of the app. `read` gets each page, and `fails` decides whether the next page fails.
 */
export const layerSpied = (read: (page: Page) => void, fails = () => false) =>
  Layer.effect(
    PgClient.PgClient,
    PgClient.PgClient.use((sql) =>
      Effect.sync(() => {
        const client = sql.withoutTransforms()
        const unsafe = (text: string, params: ReadonlyArray<unknown> = []) => {
          const statement = client.unsafe<{ readonly p?: string | null }>(text, params)
          // A page of a replay, and neither a page of the reader nor the read of a witness.
          if (!text.includes("m.payload") || !text.includes("realtime.identity()")) {
            return statement
          }
          if (fails()) return Effect.fail(new Error("the pool is out of order"))
          return Effect.tap(statement, (rows) =>
            Effect.sync(() =>
              read({
                channel: String(params[7]),
                text: rows.reduce((sum, { p }) => sum + (p?.length ?? 0), 0)
              })
            )
          )
        }
        return new Proxy(sql, {
          get: (target, key) =>
            key === "withoutTransforms"
              ? () =>
                  new Proxy(client, {
                    get: (one, name) =>
                      (name === "unsafe" ? unsafe : Reflect.get(one, name)) as unknown
                  })
              : (Reflect.get(target, key) as unknown)
        })
      })
    )
  )

/** The client of the app. `read` gets the text of each statement that the library wrote, when it runs. */
export const layerCounted = (read: (text: string) => void) =>
  Layer.effect(
    PgClient.PgClient,
    PgClient.PgClient.use((sql) =>
      Effect.sync(() => {
        const client = sql.withoutTransforms()
        const unsafe = (text: string, params?: ReadonlyArray<unknown>) =>
          Effect.suspend(() => {
            read(text)
            return client.unsafe(text, params)
          })
        const spied = new Proxy(client, {
          get: (one, name) => (name === "unsafe" ? unsafe : Reflect.get(one, name)) as unknown
        })
        return new Proxy(sql, {
          get: (one, name) =>
            (name === "withoutTransforms" ? () => spied : Reflect.get(one, name)) as unknown
        })
      })
    )
  )
