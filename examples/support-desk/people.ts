/** The people of the desk. Your application finds them for a session or a token. */
// #region people
export interface Person {
  readonly id: string
  readonly name: string
  readonly team: string
  readonly role: "agent" | "lead"
}

/** A lead reads every ticket of the team, an agent those that are not restricted. */
export const isLead = ({ role }: Person): boolean => role === "lead"
// #endregion
