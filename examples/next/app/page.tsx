// #region page
import { OrderList } from "./OrderList.tsx"

export const dynamic = "force-dynamic" // for each request, not once in `next build`

export default async function Page() {
  return <OrderList orders={await globalThis.readOrders()} />
}
// #endregion
