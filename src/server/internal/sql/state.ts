/**
 * The state of a watched table, as SQL text: its rows as of the snapshot of the calling statement.
 *
 * Each table of a durable channel has a function `w<id>_state`, which runs as the owner of the table and
 * names nothing of this schema, where that role has no rights. Nodes call `realtime.state`, which finds the
 * function; they read no table. Both are STABLE: their queries see what the calling statement sees.
 *
 * What a caller does wrong is an answer and no error, because an error would be in the log of the database.
 */
import { literal } from "./literal.ts"
import { everyRow, exact, path } from "./triggers.ts"

/** The template of the function. Names between two "@" are filled in. */
const stateFunction = `
#variable_conflict use_variable
declare
  columns_ text[] := @columns@;
  types_ text[] := @types@;
  routes_ text[] := @routes@;
  conditions text := '';
  column_ text;
  type_ text;
  texts text[];
  given text[];
  canonical text[];
  rows_ refcursor;
  row_ text;
  all_ text[] := '{}';
  bytes bigint := 0;
begin
  begin
    for column_, texts in
      select r.c, array[r.v] from unnest(routes_, route) r(c, v) where route is not null
      union all
      select e.key, array(select x from json_array_elements_text(e.value) x) from json_each(filter::json) e loop
      type_ := types_[array_position(columns_, column_)];
      given := array_remove(texts, null);
      if type_ is not null then
        execute 'select array_agg(x::' || type_ || '::text order by i) from unnest($1) with ordinality u(x, i)' into canonical using given;
      end if;
      -- Events are compared as texts: another spelling would find rows here that they do not.
      if type_ is null or coalesce(canonical, '{}') <> given collate "C" then
        return query select 'filter', column_;
        return;
      end if;
      -- As a constant, a literal of the array: a parameter would be cast for each row, and hide what it selects.
      conditions := conditions || format(' and (t.%1$I = any(%2$L::%3$s[])%4$s)', column_, given, type_,
        case when array_position(texts, null) is not null then format(' or t.%I is null', column_) end);
    end loop;
  exception when data_exception then
    return query select 'filter', coalesce(column_, '');
    return;
  end;
  open rows_ no scroll for execute @select@ || @rel@::regclass || ' t where true' || conditions || @order@
    using max_bytes, max_rows::bigint + 1;
  loop
    -- One at a time: PL/pgSQL would read 50 large rows ahead.
    fetch rows_ into row_;
    exit when not found;
    if cardinality(all_) >= max_rows then
      return query select 'rows', (max_rows::bigint + 1)::text;
      return;
    end if;
    bytes := bytes + coalesce(octet_length(row_), max_bytes + 1);
    if bytes > max_bytes then
      return query select 'bytes', bytes::text;
      return;
    end if;
    all_ := all_ || row_;
  end loop;
  -- The table is locked against both by now. TRUNCATE and ALTER TABLE write new files, of which an earlier
  -- snapshot sees no rows; pg_class is read by the snapshot, and pg_relation_filenode() as it is.
  if @altered@ or exists (
    with recursive part(oid) as (select @rel@::oid union select i.inhrelid from part p join pg_inherits i on i.inhparent = p.oid)
    select from part p left join pg_class c on c.oid = p.oid
    where pg_relation_filenode(p.oid) is distinct from nullif(c.relfilenode, 0)) then
    return query select 'altered', null::text;
    return;
  end if;
  return query select null::text, x from unnest(all_) x;
end`

/** A table whose events tell of all of its rows. */
const whole = (watched: string): string =>
  `${watched}.delivery = 'durable' and coalesce(${watched}.definition ->> 'insert', ${watched}.definition ->> 'update', ${watched}.definition ->> 'delete') is null`

/** Why there is no state of a channel that has the events of several tables. */
export const sharedTables = "several tables are watched for it"

/** The number of a table's function; NULL where it is missing, or where its owner is not that of the table. */
const functionOf = (watched: string): string =>
  `(select p.oid from pg_proc p join pg_class o on o.oid = ${watched}.rel and o.relowner = p.proowner
    where p.pronamespace = 'realtime'::regnamespace and p.proname = format('w%s_state', ${watched}.id))`

/** The end of a trouble that only a state has. */
export const onlyState = "as a state"

/** A policy in force for the owner: row_security = off then raises an error. */
export const policyTrouble = `when ${whole("w")} and c.relrowsecurity and c.relforcerowsecurity
        and not (select r.rolsuper or r.rolbypassrls from pg_roles r where r.oid = c.relowner)
        then 'row-level security is forced on its owner, so its rows cannot be read ${onlyState}'`

export const ownerTrouble = `when ${whole("w")} and ${functionOf("w")} is null
        then format('it was watched by a role that is no member of its owner %s, so its rows cannot be read ${onlyState}', c.relowner::regrole)`

export const state: ReadonlyArray<string> = [
  `-- Writes the function that reads the rows of a watched table, or drops it where there is none to write, or
-- where this role is neither the owner of the table nor a member of it.
create or replace function realtime.generate_state(id int) returns void
language plpgsql ${path} set quote_all_identifiers = off set standard_conforming_strings = on set client_min_messages = warning as $generate$
#variable_conflict use_variable
declare
  f record;
  w realtime.watched;
  name_ text := format('realtime.w%s_state(text[], text, int, bigint)', id);
  owner_ name;
  outbox name := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = 'realtime.watched'::regclass);
  had name;
  columns_ record;
  body text;
  lends boolean;
begin
  select t.* into w from realtime.watched t where t.id = generate_state.id;
  f := realtime.facts(id, w.rel);
  select pg_get_userbyid(c.relowner) into owner_ from pg_class c where c.oid = w.rel;
  if not (${whole("w")}) then
    execute 'drop function if exists ' || name_;
    return;
  end if;
  with recursive base(name, oid) as (
    select a.attname::text, a.atttypid from pg_attribute a where a.attrelid = w.rel and a.attname = any(w.matches) and not a.attisdropped
      and realtime.has_one_text(a.atttypid, a.attcollation)
    union all
    select b.name, t.typbasetype from base b join pg_type t on t.oid = b.oid where t.typtype = 'd')
  select array_agg(b.name order by b.name) names, array_agg(format_type(b.oid, null) order by b.name) types into columns_
    from base b join pg_type t on t.oid = b.oid where t.typtype <> 'd';
  body := realtime.fill(${literal(stateFunction)}, jsonb_build_object(
    'columns', quote_literal(coalesce(columns_.names, '{}')), 'types', quote_literal(coalesce(columns_.types, '{}')),
    'routes', quote_literal(coalesce(w.routes, '{}')), 'rel', w.rel::oid,
    'select', quote_literal((select format('select case when %s <= $1 and (%s) then %s end from ',
      coalesce((select string_agg(case when a.atttypid = 17 then format('coalesce(2 * octet_length(t.%I)::bigint, 0)', a.attname)
        else format('coalesce(octet_length(t.%I)::bigint, 0)', a.attname) end, ' + ') from pg_attribute a
        where a.attrelid = w.rel and a.attname = any(f.names) and a.atttypid in (17, 25, 1042, 1043)), '0'),
      (realtime.projection(w.rel, f.names, f.keys, 't', 2147483647)).fits,
      case when realtime.is_plain(w) then 'row_to_json(t.*)::text' else realtime.members(f.names, 't', true) end))),
    'order', quote_literal((select ' order by ' || string_agg(format('t.%I', k), ', ') || ' limit $2' from unnest(f.keys) k)),
    'altered', realtime.altered_sql(w, f.names, f.keys)));
  begin
    select pg_get_userbyid(p.proowner) into had from pg_proc p
      where p.pronamespace = 'realtime'::regnamespace and p.proname = format('w%s_state', id);
    if not pg_has_role(had, 'usage') then
      execute 'drop function ' || name_;
      had := null;
    end if;
    execute format('create or replace function realtime.w%s_state(route text[], filter text, max_rows int, max_bytes bigint)
      returns table (fault text, value text) language plpgsql stable security definer %s as %L', id, ${literal(`${exact} ${everyRow} set cursor_tuple_fraction = 1`)}, body);
    execute format('revoke all on function %s from public', name_);
    if coalesce(had, current_user) <> owner_ then
      -- The new owner of a function needs this right for a moment.
      lends := not has_schema_privilege(owner_, 'realtime'::regnamespace, 'create');
      if lends then
        execute format('grant create on schema realtime to %I', owner_);
      end if;
      execute format('alter function %s owner to %I', name_, owner_);
      if lends then
        execute format('revoke create on schema realtime from %I', owner_);
      end if;
    end if;
    if outbox <> owner_ then
      execute format('grant execute on function %s to %I', name_, outbox);
    end if;
  exception when insufficient_privilege then
    begin
      execute 'drop function if exists ' || name_;
    exception when insufficient_privilege then
      -- It is not used while it has another owner than the table.
      null;
    end;
  end;
end $generate$`,

  `-- The rows of a table, or of one of its routes, that a filter includes: JSON of the texts that each column may
-- have, with null for NULL. Rows without a fault, in the order of the primary key, or one fault: 'none' with the
-- reason, 'filter' with the column, 'rows' and 'bytes' with how many there are at least, or 'altered': the table
-- was altered or rewritten. realtime.look() and another snapshot mend it.
create or replace function realtime.state(channel text, topic text, schema_ text, table_ text, filter text, max_rows int, max_bytes bigint)
returns table (fault text, value text) language plpgsql stable security definer ${path} as $$
#variable_conflict use_variable
declare
  w realtime.watched;
  route text[] := case when channel <> topic then string_to_array(substr(channel, length(topic) + 2), ':') end;
begin
  -- A table that was renamed is found by its channel alone.
  select x.* into w from realtime.watched x join pg_class c on c.oid = x.rel
    where x.channel = topic and x.delivery = 'durable' order by (c.relname = table_ and c.relnamespace::regnamespace::text = quote_ident(schema_)) desc limit 1;
  if w.id is null then
    return query select 'none', 'no table is watched for it with delivery durable';
  elsif exists (select from realtime.watched x join pg_class c on c.oid = x.rel
    where x.channel = topic and x.delivery = 'durable' and x.id <> w.id) then
    return query select 'none', ${literal(sharedTables)};
  elsif not (${whole("w")}) then
    return query select 'none', 'its table is watched with conditions';
  elsif ${functionOf("w")} is null and w.signature is distinct from realtime.signature(w.rel) then
    return query select 'altered', null::text;
  elsif ${functionOf("w")} is null then
    return query select 'none', 'its table was watched by a role that is no member of the owner of the table';
  elsif cardinality(route) <> coalesce(cardinality(w.routes), 0) then
    return query select 'filter', array_to_string(w.routes, ', ');
  else
    return query execute format('select s.fault, s.value from realtime.w%s_state($1, $2, $3, $4) s', w.id) using route, filter, max_rows, max_bytes;
  end if;
end $$`
]
