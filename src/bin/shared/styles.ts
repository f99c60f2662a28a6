/** Colours of a terminal. */
import { own } from "./output.ts"

const styled =
  (code: number, isOn: boolean) =>
  (text: string): string =>
    isOn ? `${own(`[${code}m`)}${text}${own("[0m")}` : text

/** Functions that style a text, or leave it as it is. */
export const styles = (isOn: boolean) => ({
  bold: styled(1, isOn),
  dim: styled(2, isOn),
  green: styled(32, isOn),
  yellow: styled(33, isOn),
  red: styled(31, isOn)
})
