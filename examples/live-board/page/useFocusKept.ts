import { type RefObject, useLayoutEffect } from "react"

/**
 * Moves the focus to the nearest button of the list when the element with the focus leaves the page.
 * Otherwise the focus would go back to the start of the page.
 */
export const useFocusKept = (ref: RefObject<HTMLElement | null>): void =>
  useLayoutEffect(() => {
    const element = ref.current!
    return () => {
      if (!element.contains(document.activeElement)) return
      const buttons = [...document.querySelectorAll<HTMLElement>(".rows button, h2#orders")].filter(
        (button) => !element.contains(button)
      )
      const isAfter = (button: HTMLElement) =>
        (element.compareDocumentPosition(button) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0
      const nearest = buttons.find(isAfter) ?? buttons.at(-1)
      nearest?.focus()
    }
  }, [ref])
