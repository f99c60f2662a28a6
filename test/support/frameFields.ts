/** The frames of the protocol with the names of their fields, from the Schemas of the server. */
import { SchemaAST } from "effect"
import * as FrameSchema from "../../src/server/FrameSchema.ts"

export interface FrameFields {
  readonly type: string
  /** In the order of the wire, without `type`. */
  readonly required: ReadonlyArray<string>
  readonly optional: ReadonlyArray<string>
}

const fieldsOf = ({
  members
}: typeof FrameSchema.ClientFrame | typeof FrameSchema.ServerFrame): ReadonlyArray<FrameFields> =>
  members.map(({ fields }) => {
    const names = Object.entries(fields).filter(([name]) => name !== "type")
    const isOptional = ({ ast }: { readonly ast: SchemaAST.AST }) => SchemaAST.isOptional(ast)
    return {
      type: fields.type.literal,
      required: names.flatMap(([name, field]) => (isOptional(field) ? [] : [name])),
      optional: names.flatMap(([name, field]) => (isOptional(field) ? [name] : []))
    }
  })

export const clientFrameFields = fieldsOf(FrameSchema.ClientFrame)
export const serverFrameFields = fieldsOf(FrameSchema.ServerFrame)
