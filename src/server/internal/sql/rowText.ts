/**
 * The settings of a session that affect the text of a row, with the values in force wherever a row becomes
 * an event or part of a state: one value has one text, whichever session writes or reads it.
 */
export const rowSettings: Readonly<Record<string, string>> = {
  TimeZone: "UTC",
  DateStyle: "ISO, YMD",
  IntervalStyle: "postgres",
  bytea_output: "hex",
  extra_float_digits: "1",
  lc_monetary: "C",
  quote_all_identifiers: "off",
  xmlbinary: "base64"
}
