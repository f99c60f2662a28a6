/**
 * The settings of a session that reach the text of a row, and what they are wherever a row becomes an
 * event or part of a state: one value has one text, whoever writes or reads it.
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
