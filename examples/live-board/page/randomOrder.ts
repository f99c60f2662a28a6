import type { Order } from "../channels.ts"

const customers = [
  "Ada Nowak",
  "Bilal Haddad",
  "Chiara Conti",
  "Dmitri Volkov",
  "Esi Boateng",
  "Freya Jensen",
  "Goran Petrović",
  "Inés Duarte",
  "Kenji Mori",
  "Leila Farahani",
  "Mateo Rivas",
  "Nadia Berger"
]

const items: ReadonlyArray<readonly [string, number]> = [
  ["House espresso, 1 kg whole bean", 2650],
  ["Kiambu AA, 250 g whole bean", 1020],
  ["Gedeb natural, 500 g coarse", 2290],
  ["Decaf Huila, 250 g fine", 940],
  ["Moka blend, 1 kg moka", 2980],
  ["Filter papers, box of 100", 690],
  ["Gift box, three origins", 3850],
  ["Hand grinder, walnut", 11900]
]

const pick = <A>(list: ReadonlyArray<A>): A => list[Math.floor(Math.random() * list.length)]!

export const randomOrder = (): Pick<Order, "customer" | "item" | "amount_cents"> => {
  const [item, amount_cents] = pick(items)
  return { customer: pick(customers), item, amount_cents }
}
