/**
 * The first 12 orders.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { Status } from "./channels.ts"

/** Newest first: customer, item, price in cents, status, age in minutes. */
const orders: ReadonlyArray<readonly [string, string, number, Status, number]> = [
  ["Amara Okafor", "Kiambu AA, 500 g whole bean", 1890, "new", 2],
  ["Jonas Weber", "House espresso, 1 kg fine", 2650, "new", 7],
  ["Mei-Lin Chao", "Gedeb natural, 250 g whole bean", 1240, "new", 11],
  ["Sofía Herrera", "Decaf Huila, 500 g medium", 1720, "packed", 24],
  ["Théo Marchand", "Filter papers, box of 100", 690, "packed", 31],
  ["Priya Nair", "Cold brew kit with 2 x 250 g", 4900, "packed", 48],
  ["Liam Fitzgerald", "House espresso, 3 kg whole bean", 7400, "shipped", 66],
  ["Hanna Lindqvist", "Gift box, three origins", 3850, "shipped", 92],
  ["Kofi Mensah", "Kiambu AA, 1 kg whole bean", 3480, "shipped", 118],
  ["Yuki Tanabe", "Hand grinder, walnut", 11900, "delivered", 205],
  ["Elena Rossi", "Moka blend, 500 g moka", 1590, "delivered", 251],
  ["Noah Bergström", "Subscription, March", 2400, "delivered", 330]
]

export const seed = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  for (const [customer, item, amount_cents, status, minutes] of orders.toReversed()) {
    const created_at = new Date(Date.now() - minutes * 60_000)
    yield* sql`insert into public.orders ${sql.insert({ customer, item, amount_cents, status, created_at })}`
  }
})
