/**
 * Watching tables, as SQL text: `realtime.generate`, which writes the trigger functions of one table.
 *
 * PL/pgSQL prepares each expression once per transaction, which is most of the cost in a transaction of one
 * row. So an operation is one expression, with the channel, the columns and the key as constants. Each call
 * verifies that the catalog still has the same columns under the same names. The verification, and what
 * reads the row, stand in a block that catches every error and writes nothing; `realtime.row_slow` and
 * `realtime.rows_slow` then handle the change.
 *
 * The functions are replaced without a lock on their table, also by a node that finds a table altered.
 */
import { literal } from "./literal.ts"
import { deepest, exact, kept, mark, path, settingsNow, settingsTo } from "./triggers.ts"

/** A row of up to this many bytes as stored cannot grow beyond what PostgreSQL can build. */
const smallRow = 65_536

/** The template of the row-level function. Names between two "@" are filled in. */
const rowFunction = `
#variable_conflict use_variable
declare
  told text;
  -- The DELETE event of the old key or route, where that of the row changed.
  ended text;@declared@
begin
  begin
    if tg_op = 'UPDATE' then
      told := case
        when @nested@ or @foreign@ or pg_column_size(new) > ${smallRow} or pg_column_size(old) > ${smallRow} then null
        when not (@changed@) then '-'
        when @deeper@ and ((new.xmax = '0'::xid) is not true or not (@same@)) then null
        when @same@ then '{"operation":"UPDATE","data":' || @new_data@@old_member@ || ',"key":' || @new_key@ || '}'
        else '+' end;
      if told = '+' then
        ended := '{"operation":"DELETE","data":' || @old_data@ || ',"key":' || @old_key@ || '}';
        told := '{"operation":"INSERT","data":' || @new_data@ || ',"key":' || @new_key@ || '}';@moved@
      end if;@updated@
    elsif tg_op = 'INSERT' then
      told := case
        when @nested@ or @foreign@ or pg_column_size(new) > ${smallRow} then null
        when @deeper@ and (new.xmax = '0'::xid) is not true then null
        else '{"operation":"INSERT","data":' || @new_data@ || ',"key":' || @new_key@ || '}' end;@inserted@
    else
      told := case
        when @nested@ or @foreign@ or pg_column_size(old) > ${smallRow} then null
        when @deeper@ then null
        else '{"operation":"DELETE","data":' || @old_data@ || ',"key":' || @old_key@ || '}' end;@deleted@
    end if;
  exception when others then
    told := null;
    ended := null;
  end;
  if ended is null and octet_length(told) between 3 and @cap@ then
    @emit_told@
  elsif ended is not null and octet_length(told) between 3 and @cap@ and octet_length(ended) <= @cap@ then
    @emit_both@
  elsif told is distinct from '-' then
    if not realtime.row_slow(@id@, tg_relid, tg_op, old, new) and realtime.is_part(tg_relid, @rel@) then
      perform realtime.emit_unknown(@id@, @channel@, @delivery@);
    end if;
  end if;
  return null;
end`

/**
 * The template of the statement-level functions. A single row takes the path of the row level: most
 * statements have one, and planning a query over it would cost more than the message.
 */
const statementFunction = `
#variable_conflict use_variable
declare
  -- No alias of a query below has one of these names.
  row_ record;
  was_ record;
  told text;
  ended text;
  rows_ int;
  late text;
  before_ text[];
  set_ text;@declared@
begin
  select * into row_ from @side@ limit 1;
  if not found then
    return null;
  end if;
  rows_ := (select count(*) from (select from @side@ limit 2) x);
  -- As settings of the function they would cost a statement without rows more than all the rest.
  before_ := ${settingsNow};
  set_ := ${settingsTo()};
  begin
    if @nested@ or @foreign@ or @added@ or coalesce(@deeper@, false) then
      told := null;
    elsif rows_ = 1 then
      @one@
    else
      @many@
      told := '-';
    end if;
  exception when others then
    told := null;
    ended := null;
  end;
  if told is null or octet_length(told) > @cap@ or octet_length(ended) > @cap@ then
    begin
      late := realtime.rows_slow(@id@, tg_relid, tg_op);
      told := '-';
      if late <> '-' then
        execute late;
      elsif realtime.is_part(tg_relid, @rel@) then
        told := '!';
      end if;
    exception when others then
      told := '!';
    end;
  end if;
  set_ := ${settingsTo("before_")};
  if told = '-' then
    return null;
  elsif told = '!' then
    perform realtime.emit_unknown(@id@, @channel@, @delivery@);
  elsif ended is null then
    @emit_told@
  else
    @emit_both@
  end if;
  return null;
end`

const oneRow = `
      if pg_column_size(row_) <= ${smallRow} then
        told := '{"operation":"@op@","data":' || @row_data@ || ',"key":' || @row_key@ || '}';@placed@
      end if;`

const oneUpdate = `
      select * into was_ from realtime_old limit 1;
      told := case
        when pg_column_size(row_) > ${smallRow} or pg_column_size(was_) > ${smallRow} then null
        when not (@changed@) then '-'
        when @same@ then '{"operation":"UPDATE","data":' || @row_data@@old_member@ || ',"key":' || @row_key@ || '}'
        else '+' end;
      if told = '+' then
        ended := '{"operation":"DELETE","data":' || @was_data@ || ',"key":' || @was_key@ || '}';
        told := '{"operation":"INSERT","data":' || @row_data@ || ',"key":' || @row_key@ || '}';@moved@
      end if;@updated@`

/** Sends an event on the channel of its route. A row without a route is counted. */
const emitRouted = `
    if @place@ is null then
      perform nextval('realtime.w@id@_unrouted');
    else
      insert into realtime.messages (channel, payload, match) values (@place@, @told@, ${kept("@match@")});
    end if;`

/** "offset 0" keeps PostgreSQL from writing an expression, and so a row's JSON, in two places. */
const manyRows = `select '@op@' op, s.d, null::text od, s.k@s_place@ from (
        select case when pg_column_size(r.*) <= ${smallRow} or (@r_fits@) then @r_data_all@ end d, @r_key@ k@r_place@ from @side@ r offset 0) s`

/** Makes JSON of an old row only where it is wanted, or where no new row has its key. */
const manyUpdates = `select case when n.@first@ is null then 'DELETE' when o.@first@ is null then 'INSERT' else 'UPDATE' end op,
          case when n.@first@ is null then @ended_data@ else n."realtime data" end d,
          @old_data@ od, @coalesced_key@ k@joined_place@
        from (select @r_columns@@old_data_column@@key_column@@r_place@ from realtime_old r) o
        full join (select @r_columns@, case when pg_column_size(r.*) <= ${smallRow} or (@r_fits@) then @r_data_all@ end "realtime data"@key_column@@r_place@ from realtime_new r) n
          on @join@
        where n.@first@ is null or o.@first@ is null or record_image_ne(row(@n_columns@), row(@o_columns@)) offset 0`

const manyBodies = `select case when octet_length(e.body) <= @cap@ then e.body else realtime.change(e.op, e.d, e.od, e.k, @cap@) end body@e_place@ from (
      select c.*, '{"operation":"' || c.op || '","data":' || c.d || coalesce(',"old":' || c.od, '') || ',"key":' || c.k || '}' body from (
        @changes@
      ) c offset 0) e`

export const generate: ReadonlyArray<string> = [
  `-- Replaces all names in one pass, because the name of a column may look like one of them.
create or replace function realtime.fill(template text, pieces jsonb) returns text
language sql immutable ${path} as $$
  select string_agg(case when i % 2 = 1 then part else pieces ->> part end, '' order by i)
  from unnest(string_to_array(template, '@')) with ordinality t(part, i)
$$`,

  `-- SQL for a JSON object of some columns of a row. Without "null_" it is NULL where one of them is.
create or replace function realtime.members(names text[], alias text, null_ boolean) returns text
language sql immutable ${path} as $$
  select coalesce(string_agg(quote_literal(case when i = 1 then '{' else ',' end || to_json(c)::text || ':')
    || format(case when null_ then ' || coalesce(to_json(%s.%I)::text, ''null'')' else ' || to_json(%s.%I)::text' end, alias, c), ' || ' order by i) || ' || ''}''', '''{}''')
  from unnest(names) with ordinality t(c, i)
$$`,

  `-- SQL that is true while an object of the catalog is unchanged. The first text may be in the language of
-- the session, and is read four times as fast.
create or replace function realtime.still(rel oid, part int) returns text
language sql stable ${path} set quote_all_identifiers = off as $$
  select format('coalesce(pg_describe_object(1259, %1$s, %2$s) = %3$L or (pg_identify_object(1259, %1$s, %2$s)).identity = %4$L, false)',
    rel, part, pg_describe_object(1259, rel, part), (pg_identify_object(1259, rel, part)).identity)
$$`,

  `-- The facts that the functions of a table rely on.
create or replace function realtime.signature(rel oid) returns text
language sql stable ${path} as $$
  select concat_ws('|', 5, rel::oid, current_setting('server_version_num')::int / 10000,
    (select string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.attcollation, a.attgenerated), ',' order by a.attnum)
      from pg_attribute a where a.attrelid = rel and a.attnum > 0 and not a.attisdropped),
    (select concat_ws(' ', i.indexrelid, i.indkey, i.indnkeyatts, c.relname) from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = rel and i.indisprimary),
    (select c.relname || '.' || c.relnamespace::regnamespace::text || ' ' || c.relowner from pg_class c where c.oid = rel))
$$`,

  `-- Whether a row travels without changes.
create or replace function realtime.is_plain(w realtime.watched) returns boolean
language sql stable ${path} as $$
  select w.columns is null and not exists (select from pg_attribute a where a.attrelid = w.rel and a.attnum > 0 and not a.attisdropped and a.attgenerated = 'v')
$$`,

  `-- SQL that is true once a table has other columns or another key than those of its functions.
create or replace function realtime.altered_sql(w realtime.watched, names text[], keys text[]) returns text
language sql stable ${path} as $$
  select concat_ws(' or ',
    (select string_agg('not ' || realtime.still(i.indexrelid, 0), ' or ') from pg_index i where i.indrelid = w.rel and i.indisprimary),
    -- Without a list a column that lost its name is not found, unless one that a trigger cannot read took it.
    (select string_agg('not ' || realtime.still(w.rel, a.attnum), ' or ' order by a.attnum) from pg_attribute a
      where a.attrelid = w.rel and not a.attisdropped and (a.attname = any(keys) or w.columns is not null and a.attname = any(names) or w.columns is null and a.attgenerated = 'v')),
    -- A later column is in no list of names, or a trigger may be unable to read it.
    case when w.columns is null and current_setting('server_version_num')::int >= 180000 then format('pg_describe_object(1259, %s, %s) is not null',
      w.rel::oid, (select max(a.attnum) + 1 from pg_attribute a where a.attrelid = w.rel and a.attnum > 0)) end)
$$`,

  `-- Writes the functions of one watched table, or drops them where it has no key. The triggers that would
-- still call them are dropped before.
create or replace function realtime.generate(id int) returns void
language plpgsql ${path} set quote_all_identifiers = off set standard_conforming_strings = on as $generate$
#variable_conflict use_variable
declare
  f record;
  w realtime.watched;
  rel oid;
  -- The signature for which the functions are written.
  written text;
  version int := current_setting('server_version_num')::int;
  lists boolean;
  plain boolean;
  -- Whether rows have a match, and whether they have routes as well.
  matched boolean;
  routed boolean;
  compared text[];
  last int;
  pieces jsonb;
  op text;
  owner_ name;
  fits record;
  changes text;
  create_ text := 'create or replace function realtime.%I() returns trigger language plpgsql security definer %s as %L';
begin
  -- A node that finds the table altered, and an install, may do this at the same time.
  perform pg_advisory_xact_lock(hashtextextended('effect-realtime generate', id));
  select t.rel into rel from realtime.watched t where t.id = generate.id;
  written := realtime.signature(rel);
  f := realtime.facts(id, rel);
  w := f.w;
  if f.keys = '{}' then
    raise exception 'table % has no primary key, or was altered after this transaction began', rel
      using errcode = 'RT005', hint = 'Watch a table that has one, and try again in a transaction of its own.';
  end if;
  lists := w.columns is not null;
  plain := realtime.is_plain(w);
  matched := w.matches is not null;
  routed := w.routes is not null;
  compared := array(select distinct c from unnest(f.names || f.keys || coalesce(w.matches, '{}')) c);
  last := (select max(a.attnum) from pg_attribute a where a.attrelid = rel and a.attnum > 0);
  pieces := jsonb_build_object(
    'id', id, 'rel', rel, 'cap', w.max_bytes, 'channel', quote_literal(w.channel), 'delivery', quote_literal(w.delivery),
    'nested', format($q$(pg_trigger_depth() > 1 and set_config('realtime.depth_%1$s', greatest(pg_trigger_depth(), %2$s)::text, true) is null)$q$, id, replace(${literal(deepest("@"))}, '@', quote_literal(id))),
    'deeper', format('(%s > pg_trigger_depth())', replace(${literal(deepest("@"))}, '@', quote_literal(id))),
    'foreign', concat_ws(' or ',
      case when pg_partition_root(rel) = rel then format('(tg_relid <> %1$s and pg_partition_root(tg_relid) is distinct from %1$s)', rel)
        when (select c.relkind from pg_class c where c.oid = rel) = 'p' then format('not realtime.is_part(tg_relid, %s)', rel)
        else format('tg_relid <> %s', rel) end,
      realtime.altered_sql(w, f.names, f.keys)),
    'added', case when lists then 'false' when version >= 140000 then format('pg_describe_object(1259, %s, %s) is not null', rel, last + 1)
      else format('exists (select from pg_attribute where attrelid = %s and attnum = %s)', rel, last + 1) end,
    'declared', case when matched then E'\\n  place_ text;\\n  left_ text;\\n  match_ text;\\n  was_match_ text;' else '' end,
    'emit_told', case
      when routed then realtime.fill(${literal(emitRouted)}, jsonb_build_object('id', id, 'place', 'place_', 'told', 'told', 'match', 'match_'))
      when matched then format('insert into realtime.messages (channel, payload, match) values (%L, told, ${kept("match_")});', w.channel)
      when w.delivery = 'durable' then format('insert into realtime.messages (channel, payload) values (%L, told);', w.channel)
      else format('perform pg_notify(%L, told || %s);', w.channel, ${literal(mark)}) end,
    'emit_both', case
      when routed then realtime.fill(${literal(emitRouted)}, jsonb_build_object('id', id, 'place', 'left_', 'told', 'ended', 'match', 'was_match_'))
        || realtime.fill(${literal(emitRouted)}, jsonb_build_object('id', id, 'place', 'place_', 'told', 'told', 'match', 'match_'))
      when matched then format('insert into realtime.messages (channel, payload, match) values (%1$L, ended, ${kept("was_match_")}), (%1$L, told, ${kept("match_")});', w.channel)
      when w.delivery = 'durable' then format('insert into realtime.messages (channel, payload) values (%1$L, ended), (%1$L, told);', w.channel)
      else format('perform pg_notify(%1$L, ended || %2$s); perform pg_notify(%1$L, told || %2$s);', w.channel, ${literal(mark)}) end);
  if routed then
    execute format('create sequence if not exists realtime.%I', 'w' || id || '_unrouted');
  end if;
  if w.level = 'row' then
    pieces := pieces || jsonb_build_object(
      'changed', case when plain then 'new *<> old' else realtime.images('record_image_ne', compared, 'new', 'old') end,
      'same', realtime.images('record_image_eq', f.keys || coalesce(w.routes, '{}'), 'new', 'old'),
      'moved', realtime.place_sql(w, 'MOVE', 'new', 'old'),
      'updated', realtime.place_sql(w, 'UPDATE', 'new', 'old'),
      'inserted', realtime.place_sql(w, 'INSERT', 'new', 'old'),
      'deleted', realtime.place_sql(w, 'DELETE', 'new', 'old'),
      'new_data', case when plain then 'row_to_json(new)::text' else realtime.members(f.names, 'new', true) end,
      'old_data', case when plain then 'row_to_json(old)::text' else realtime.members(f.names, 'old', true) end,
      'new_key', realtime.members(f.keys, 'new', false),
      'old_key', realtime.members(f.keys, 'old', false));
    pieces := pieces || jsonb_build_object('old_member', case when w.old then ' || '',"old":'' || ' || (pieces ->> 'old_data') else '' end);
    execute format(create_, 'w' || id || '_row', ${literal(exact)}, realtime.fill(${literal(rowFunction)}, pieces));
    execute format('revoke all on function realtime.%I() from public', 'w' || id || '_row');
  else
    fits := realtime.projection(rel, f.names, f.keys, 'r', w.max_bytes);
    pieces := pieces || jsonb_build_object(
      'row_data', case when plain then 'row_to_json(row_)::text' else realtime.members(f.names, 'row_', true) end,
      'was_data', case when plain then 'row_to_json(was_)::text' else realtime.members(f.names, 'was_', true) end,
      'row_key', realtime.members(f.keys, 'row_', false),
      'was_key', realtime.members(f.keys, 'was_', false),
      'r_data_all', case when plain then 'row_to_json(r.*)::text' else realtime.members(f.names, 'r', true) end,
      'r_key', realtime.members(f.keys, 'r', false),
      'r_fits', fits.fits,
      'moved', realtime.place_sql(w, 'MOVE', 'row_', 'was_'),
      'updated', realtime.place_sql(w, 'UPDATE', 'row_', 'was_'),
      's_place', case when matched then ', s."realtime place" place, s."realtime match" match' else '' end,
      'e_place', case when matched then ', e.op, nullif(e.place, '''') place, e.match' else '' end,
      'joined_place', case when matched then ', case when n."realtime place" is null then o."realtime place" else n."realtime place" end place, '
        || '''{'' || concat_ws('','', ''"old":'' || o."realtime match", ''"new":'' || n."realtime match") || ''}'' match' else '' end);
    foreach op in array array['INSERT', 'UPDATE', 'DELETE'] loop
      pieces := pieces || jsonb_build_object('op', op, 'side', case op when 'DELETE' then 'realtime_old' else 'realtime_new' end,
        'placed', realtime.place_sql(w, op, 'row_', 'row_'),
        'r_place', case when matched then format(', coalesce(%s, '''') "realtime place", %s "realtime match"', realtime.route_sql(w.channel, w.routes, 'r'),
          case op when 'UPDATE' then realtime.texts_sql(w.matches, 'r') else format($q$'{"%s":' || %s || '}'$q$, case op when 'DELETE' then 'old' else 'new' end, realtime.texts_sql(w.matches, 'r')) end) else '' end);
      if op = 'UPDATE' then
        fits := realtime.projection(rel, f.names, f.keys, 'o', w.max_bytes);
        pieces := pieces || jsonb_build_object(
          'changed', case when plain then 'row_ *<> was_' else realtime.images('record_image_ne', compared, 'row_', 'was_') end,
          'same', realtime.images('record_image_eq', f.keys || coalesce(w.routes, '{}'), 'row_', 'was_'),
          'old_member', case when w.old then ' || '',"old":'' || ' || (pieces ->> 'was_data') else '' end,
          'first', quote_ident(f.keys[1]),
          'r_columns', (select string_agg(format('r.%I', c), ', ') from unnest(compared) c),
          'n_columns', (select string_agg(format('n.%I', c), ', ') from unnest(compared) c),
          'o_columns', (select string_agg(format('o.%I', c), ', ') from unnest(compared) c),
          'ended_data', case when w.old then 'o."realtime data"' else format('case when %s then (select row_to_json(x.*)::text from (select %s) x) end', fits.fits, fits.fields) end,
          'old_data', case when w.old then format('case when n.%1$I is not null and o.%1$I is not null then o."realtime data" end', f.keys[1]) else 'null::text' end,
          'old_data_column', case when w.old then format(', case when pg_column_size(r.*) <= ${smallRow} or (%s) then %s end "realtime data"', pieces ->> 'r_fits', pieces ->> 'r_data_all') else '' end,
          'coalesced_key', (select string_agg(quote_literal(case when i = 1 then '{' else ',' end || to_json(c)::text || ':')
            || format(' || to_json(coalesce(n.%1$I, o.%1$I))::text', c), ' || ' order by i) || ' || ''}''' from unnest(f.keys) with ordinality t(c, i)));
        pieces := pieces || case
          -- Their operator finds equal only what is equal byte by byte.
          when not exists (select from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_collation c on c.oid = a.attcollation
            where a.attrelid = rel and a.attname = any(f.keys) and not (t.typtype = 'e' or (a.atttypid = any(array[16, 18, 20, 21, 23, 25, 26, 1043, 1082, 1114, 1184, 2950]::oid[]) and coalesce(c.collisdeterministic, true))))
          then jsonb_build_object('key_column', '', 'join', (select string_agg(format('n.%1$I = o.%1$I', k), ' and ') from unnest(f.keys) k))
          else jsonb_build_object('key_column', format(', %s "realtime key"', pieces ->> 'r_key'), 'join', 'n."realtime key" = o."realtime key" collate "C"') end;
        if routed then
          -- A row that moved has no other side.
          pieces := pieces || jsonb_build_object('join', (pieces ->> 'join') || ' and n."realtime place" = o."realtime place" collate "C"');
        end if;
        pieces := pieces || jsonb_build_object('one', realtime.fill(${literal(oneUpdate)}, pieces));
        changes := realtime.fill(${literal(manyUpdates)}, pieces);
      else
        pieces := pieces || jsonb_build_object('one', realtime.fill(${literal(oneRow)}, pieces));
        changes := realtime.fill(${literal(manyRows)}, pieces);
      end if;
      changes := realtime.fill(${literal(manyBodies)}, pieces || jsonb_build_object('changes', changes));
      pieces := pieces || jsonb_build_object('many', case
        -- Such a row is deleted where it was before it is inserted where it is.
        when routed then format('insert into realtime.messages (channel, payload, match) select b.place, b.body, ${kept("b.match")} from (%s) b where b.place is not null or nextval(%L) is null%s;',
          changes, format('realtime.w%s_unrouted', id), case op when 'UPDATE' then ' order by b.op <> ''DELETE''' else '' end)
        when matched then format('insert into realtime.messages (channel, payload, match) select %L, b.body, ${kept("b.match")} from (%s) b;', w.channel, changes)
        when w.delivery = 'durable' then format('insert into realtime.messages (channel, payload) select %L, b.body from (%s) b;', w.channel, changes)
        else format('perform pg_notify(%L, b.body || %s) from (%s) b;', w.channel, ${literal(mark)}, changes) end);
      execute format(create_, 'w' || id || '_' || lower(op), ${literal(path)}, realtime.fill(${literal(statementFunction)}, pieces));
      execute format('revoke all on function realtime.%I() from public', 'w' || id || '_' || lower(op));
    end loop;
  end if;
  -- The functions write to the outbox, so they have the owner of the outbox.
  select pg_get_userbyid(c.relowner) into owner_ from pg_class c where c.oid = 'realtime.watched'::regclass;
  if owner_ <> current_user then
    for op in select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'realtime'::regnamespace and p.proname ~ format('^w%s_(row|insert|update|delete)$', id) loop
      execute format('alter function %s owner to %I', op, owner_);
    end loop;
    if routed then
      execute format('alter sequence realtime.%I owner to %I', 'w' || id || '_unrouted', owner_);
    end if;
  end if;
  perform realtime.generate_state(id);
  -- The table may have been altered meanwhile, and the functions may mix both states.
  if realtime.signature(rel) is distinct from written then
    raise exception 'table % was altered while its triggers were written', rel
      using errcode = 'RT005', hint = 'Try again.';
  end if;
  update realtime.watched t set signature = written, name = rel::regclass::text, names = case when lists then f.names end where t.id = generate.id;
end $generate$`,

  `-- Statements that find the channel and the match of a change; none for a table without a match.
create or replace function realtime.place_sql(w realtime.watched, op text, new text, old text) returns text
language sql immutable ${path} as $$
  select coalesce(case when w.matches is null then '' when op = 'UPDATE' then format(E'\\n      if told <> ''-'' and ended is null then%s\\n      end if;', string_agg(line, '' order by i)) else string_agg(line, '' order by i) end, '')
  from (values
    (1, case when w.routes is not null then format(E'\\n        place_ := %s;', realtime.route_sql(w.channel, w.routes, case op when 'DELETE' then old else new end)) end),
    (2, case when w.routes is not null and op = 'MOVE' then format(E'\\n        left_ := %s;', realtime.route_sql(w.channel, w.routes, old)) end),
    (3, format(case op when 'UPDATE' then E'\\n        match_ := ''{"old":'' || %2$s || '',"new":'' || %1$s || ''}'';' when 'DELETE' then E'\\n        match_ := ''{"old":'' || %2$s || ''}'';' else E'\\n        match_ := ''{"new":'' || %1$s || ''}'';' end,
      realtime.texts_sql(w.matches, new), realtime.texts_sql(w.matches, old))),
    (4, case when op = 'MOVE' then format(E'\\n        was_match_ := ''{"old":'' || %s || ''}'';', realtime.texts_sql(w.matches, old)) end)
  ) x(i, line)
$$`,

  `-- Compares some columns of two rows byte by byte.
create or replace function realtime.images(compare text, names text[], one text, other text) returns text
language sql immutable ${path} as $$
  select format('%s(row(%s), row(%s))', compare, string_agg(format('%s.%I', one, c), ', '), string_agg(format('%s.%I', other, c), ', ')) from unnest(names) c
$$`
]
