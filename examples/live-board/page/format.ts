const euros = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" })
const time = new Intl.DateTimeFormat("en-IE", { hour: "2-digit", minute: "2-digit" })
const timeWithSeconds = new Intl.DateTimeFormat("en-IE", { timeStyle: "medium" })
const day = new Intl.DateTimeFormat("en-IE", { day: "numeric", month: "short" })

export const money = (cents: number): string => euros.format(cents / 100)

export const clock = (date: Date): string => timeWithSeconds.format(date)

/** The time of day, or the date if it is not today. */
export const when = (date: Date): string =>
  date.toDateString() === new Date().toDateString() ? time.format(date) : day.format(date)
