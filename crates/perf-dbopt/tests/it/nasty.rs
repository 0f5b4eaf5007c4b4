//! Statements whose constants the server's normalisation takes where PREPARE misses them most: one form of the language each, over
//! the shop's tables and types of its own. They were written before the repair was tried on them.

/// Beside the shop's own tables: an enumeration, domains, a composite type, ranges, full text and addresses.
pub(crate) const SCHEMA: &str = "
create type mood as enum ('sad', 'ok', 'happy');
create domain code as text check (value ~ '^[A-Z]{3}$');
create domain amount as numeric(12, 2) check (value >= 0);
create type address as (street text, number int);
create table ticket (id int primary key, feeling mood, code code, owed amount, home address, during tstzrange, seats int4range, body tsvector,
    origin inet, tags text[], grid int[], doc jsonb, at timestamptz, plain timestamp, day date, lasted interval, share real, uid uuid, raw bytea, flag boolean);
create function total_of(int, int default 0) returns int language sql stable as 'select $1 + $2';
create function label(text) returns text language sql immutable as 'select $1';
create function label(int) returns text language sql immutable as 'select $1::text';
";

/// One per line, as an application or a person would write them.
const STATEMENTS: &str = r#"
select id from ticket where at > now() - interval '7 days' * 2 and lasted < interval '1 hour' / 4 and at - plain > interval '1' day + interval '2:30' hour to minute
select justify_hours(interval '30 hours' - lasted), -interval '1 day', interval '1 day' <> lasted, make_interval(0, 0, 0, 5) + interval '3' second from ticket where lasted between interval '1 min' and '2 hours'
select at + 3 * interval '1 day', (interval '2 days' + at)::date, age(at) > '1 year', date_bin('15 minutes', at, timestamptz '2001-01-01') from ticket
select extract(epoch from at - timestamptz '2021-01-01'), extract('hour' from plain), extract(century from date '2021-01-01'), extract(second from interval '90 seconds') % 7 from ticket
select date_trunc('hour', at), date_trunc('day', plain, 'UTC') is null, date_trunc('month', day + 1) from ticket where date_trunc('day', at, 'Europe/Berlin') = '2021-01-01'
select date_trunc('day', plain) as day, count(*) from ticket where date_trunc('day', plain) >= '2021-01-01' group by date_trunc('day', plain) having max(date_trunc('day', plain)) < now() + '1 day' order by date_trunc('day', plain)
select case 'a' when 'b' then 'c' when 'd' then 'e' else 'f' end, case when 'x' = 'y' then 1 else 2 end + 3, case when true then date '2021-01-01' else '2022-01-01' end - 5 from ticket
select sum(case feeling when 'sad' then 1 when 'ok' then 2.5 else 0 end) * 100, max(case when flag then 'yes' else 'no' end) || '!', min(case when id > 5 then null when id > 3 then now() else '2021-01-01' end) from ticket
select coalesce('a', 'b'), coalesce(1, 2) + 3, coalesce(null, 5) * 2.0, coalesce(nullif('x', 'y'), 'z') || 'w', coalesce(lasted, '1 day') + '2 days', upper(coalesce('a', 'b')), greatest('a', 'b') || 'c' from ticket
select coalesce(sum(owed), 0) / coalesce(nullif(count(*), 0), 1), coalesce(avg(share), 0.5) + 1, coalesce(max(at), '2021-01-01') - interval '1 day' from ticket where coalesce(code, 'ABC') = 'XYZ'
select id from ticket where id = any('{1,2,3}') and code = any('{ABC,DEF}') and feeling = any(array['sad', 'ok']::mood[]) and 5 = any(grid) and 'a' <> all(tags) and not ('x' = any('{x,y}'))
select array[1, 2, 3] || array[4], array['a', 'b'] @> array['a'], grid[1:2], grid[1] + 1, array_append(tags, 'x'), array_position(tags, 'a', 2), array_to_string(tags, ',', '-'), cardinality(array[[1, 2], [3, 4]]), (array[1, 2])[1] + 1 from ticket
select unnest(array[1, 2]) + 1, string_to_array('a,b', ',') || '{c}', array_fill(0, array[2, 3]), array_remove(grid, 3), array(select 5 union all select 6), grid || 1, 0 || grid, grid && '{1,2}' from ticket
select doc -> 'a' -> 0 ->> 'b', doc #>> array['a', 'b'], (doc ->> 'n')::numeric + 1.5, (doc -> 'n')::int % 2, doc -> 'a' = '1', doc ->> 'a' || 'x', doc - 'a', doc - 0, doc #- '{a}' from ticket where doc ->> 'kind' in ('a', 'b') and doc @? '$.a ? (@ > 1)'
select id from ticket where doc @> '{"a": 1}' and doc ? 'b' and doc ?& array['c', 'd'] and doc ?| '{e,f}' and '{"a": 1}' <@ doc and doc @@ '$.a == 1' and jsonb_typeof(doc -> 'a') = 'number' and doc['a']['b'] = '1'
select key, value ->> 'x' from ticket, jsonb_each(doc -> 'a') where key <> 'y' union all select 'k', 'v' from jsonb_to_recordset('[{"a": 1, "b": "x"}]') as r(a int, b text) where r.a + 1 > 1
select jsonb_path_query_first(doc, '$.a[*] ? (@.b > $x)', '{"x": 5}'), jsonb_insert(doc, '{a,0}', '"x"', true), jsonb_pretty('{"a": 1}'), jsonb_build_array(1, 'a', 2.5, null, true), jsonb_object('{a,b}', '{c,d}'), to_jsonb('x'::text) from ticket
select id from ticket where (id, code) = (5, 'ABC') and (id, day) >= (1, '2021-01-01') and (feeling, flag) in (('sad', true), ('ok', false)) and row(id, 1) <> row(2, 3) and (id, share) is distinct from (1, 0.5) and (1, 'a') < (2, 'b')
select id from ticket where id between 1 and 10 order by id limit 10 offset 20
select id from ticket order by 1 limit (select count(*) / 2 from ticket) offset 5 * 2
select id from ticket where id in (1, 2) and code in ('ABC', 'DEF') and share in (0.5, 1) and day in ('2021-01-01', date '2021-01-02') and 3 in (id, 4) and 'a' in ('a', 'b') and (1 + 2) in (3, 4 * 1)
select g, g + interval '1 hour', row_number() over () % 2 from generate_series('2021-01-01'::timestamptz, now(), '1 day') g where g <> '2021-01-05' union all select d, null, 1 from generate_series(date '2021-01-01', '2021-02-01', interval '1 week') d
select a + b, a % 3 from generate_series(1, 10) a, generate_series(-5, 5, 2) b, generate_series(1, a) c where a <> 2 and c < 3
select sum(owed) over (order by id rows between 3 preceding and 2 following), count(*) over (order by at range between interval '1 hour' preceding and '5 minutes' following), avg(share) over (partition by id % 7 order by day groups between 1 preceding and 0 following exclude ties) from ticket
select lag(owed, 2, 0) over w, lead(code, 1, 'NON') over w, nth_value(id, 3) over w, ntile(4) over w, sum(case when flag then 1 else 0 end) over (w rows between 5 preceding and current row) * 1.5 from ticket window w as (partition by feeling order by id desc)
select substring('abcdef' from 2 for 3), substring(code from 1 for 2), substring(code from '[A-Z]+'), substring(code similar 'a#"b#"c' escape '#'), position('B' in code) + 1, overlay(code placing 'X' from 2 for 1) || 'y', trim(both 'x' from 'xax'), trim('  a '), ltrim(code, 'A') from ticket
select overlay('abc' placing 'x' from 1), position('a' in 'cba'), substr('hello', 2), strpos('abc', 'b') * 2, split_part('a,b', ',', 1) || 'z', left('abc', -1), repeat('ab', 2 + 1), rpad('a', 5, '*'), concat_ws('-', 1, 'a', 2.5), normalize('a', nfc), chr(60 + 5), ascii('x') + 1
select at at time zone 'UTC', plain at time zone 'Europe/Berlin' at time zone 'UTC', (at at time zone 'Asia/Tokyo')::date - 7, timezone('UTC', at) + '1 day', timestamp '2021-01-01' at time zone 'America/New_York', time '12:00' at time zone interval '-5:00' from ticket where at at time zone 'UTC' between '2021-01-01' and '2021-01-02'
select int4(5.5), text(5) || 'x', float8('1.5') * 2, numeric '1.5' + int8 '2', date('2021-01-01') + 1, '5'::text::int + 1, cast('{1,2}' as int[]) || 3, cast(null as int) + 1, cast('5 days' as interval) * 2, ('2021-01-01')::timestamptz - interval '1 day', bool 'true' and 'yes'::boolean, varchar(3) 'abcd'
select v.n + 1, v.t || 'x', v.d + 1 from (values (1, 'a', date '2021-01-01'), (2, 'b', '2021-01-02'), (3, null, null)) v(n, t, d) where v.n > 1 and v.t <> 'z'
values (1, 'a', 2.5, true, null, date '2021-01-01'), (2, 'b', 3, false, 'x', '2021-01-02') order by 1 limit 1
insert into ticket (id, feeling, code, owed, home, during, at) values (1, 'sad', 'ABC', 1.5 * 2, ('x', 1), '[2021-01-01,2021-02-01)', now() - interval '1 day') on conflict (id) do update set owed = excluded.owed + 1, code = coalesce(excluded.code, 'XYZ'), at = greatest(ticket.at, '2021-01-01'), tags = ticket.tags || '{x}' where ticket.owed < 100 and excluded.feeling <> 'ok'
insert into ticket (id, feeling, doc, grid) select g, case when g % 2 = 0 then 'sad'::mood else 'ok' end, jsonb_build_object('a', g, 'b', 'x'), array[g, 1] from generate_series(500, 510) g where not exists (select 1 from ticket where id = g + 1) on conflict do nothing returning id + 1, doc ->> 'a' || 'y'
update ticket set owed = owed + v.add, code = v.code, day = v.day, feeling = 'happy' from (values (1, 2.5, 'DEF', date '2021-01-01'), (2, 3.5, 'GHI', '2021-01-02')) v(id, add, code, day) where ticket.id = v.id and v.add > 1 and ticket.day + 1 <> '2021-01-01' returning ticket.id, owed * 2
update ticket set (code, owed) = (select 'ABC', max(total) + 1 from orders where customer = ticket.id and status = 'open'), tags[1] = 'x', home.number = 5, doc['a'] = '1', lasted = lasted * 2 + '1 hour', flag = not (id > 5) where id = 7 and during && tstzrange('2021-01-01', '2021-02-01')
delete from ticket using orders o join customer c on c.id = o.customer and c.nation = 3 where o.id = ticket.id and o.day < current_date - 30 and ticket.at < now() - '1 year'::interval and c.name like 'x%' returning ticket.id % 10
merge into ticket t using (select 1 as id, 'ABC' as code, 2.5 as owed union all select 2, 'DEF', 3.5) s on t.id = s.id and s.owed > 1 when matched and t.owed > 100 then delete when matched and s.code <> 'XYZ' then update set owed = t.owed + s.owed * 2, code = s.code, at = now() + interval '1 day' when not matched and s.id > 5 then insert (id, code, owed, feeling) values (s.id, s.code, s.owed + 1, 'ok') when not matched then do nothing
with recursive tree(id, depth, path, cost) as (select id, 0, array[id], 1.5 from product where size = 5 union all select i.product, depth + 1, path || i.product, cost * 1.1 from tree join item i on i.orders = tree.id where depth < 10 and not i.product = any(path)) search depth first by id set ord cycle id set looped to 'y' default 'n' using way select id, depth * 2, cost + 1 from tree where looped = 'n' limit 5
with recursive days(d) as (select date '2021-01-01' union all select d + 1 from days where d < '2021-01-31'), counted as not materialized (select day, count(*) * 1.0 as n from orders where day >= '2021-01-01' group by day) select d, coalesce(n, 0), n - lag(n, 1, 0) over (order by d) from days left join counted on day = d where extract(isodow from d) < 6
select c.id, x.total, y.label from customer c cross join lateral (select total + 1 as total from orders where customer = c.id and status = 'open' order by day desc limit 1 offset 2) x, lateral (select 'n' || c.nation as label, 5 as five where c.nation > 3) y left join lateral generate_series(1, y.five) z on true where x.total > 10
select feeling, code, grouping(feeling, code) & 1, sum(owed) + 1 from ticket where id > 5 group by grouping sets ((feeling, code), (feeling), ()) having sum(owed) > 10 and grouping(code) = 0 order by grouping(feeling) * 2, 4 desc limit 3
select id % 10, count(*) filter (where owed > 5), sum(owed) filter (where feeling = 'sad' and at > now() - interval '1 day') / nullif(count(*) filter (where flag), 0) * 100, string_agg(code, '; ' order by id % 3, code) filter (where code <> 'XXX') from ticket group by id % 10 having count(*) filter (where id > 1) > 2
select id / 100 as hundred, case when id < 50 then 'low' else 'high' end as band, count(*) from ticket group by id / 100, case when id < 50 then 'low' else 'high' end order by id / 100, 2
select percentile_cont(0.95) within group (order by owed), percentile_cont(array[0.5, 0.9]) within group (order by share + 1), rank('ABC') within group (order by code), percentile_disc(0.5) within group (order by lasted), mode() within group (order by feeling), dense_rank(5, 'a') within group (order by id, label(id)), cume_dist(10) within group (order by owed) from ticket
select ts_rank(body, to_tsquery('english', 'a & b'), 1), ts_headline('english', code, plainto_tsquery('x'), 'MaxWords=5') from ticket where body @@ to_tsquery('a:* | !b') and to_tsvector('simple', coalesce(code, '') || ' x') @@ websearch_to_tsquery('english', '"a b" -c') and body @@ phraseto_tsquery('x y') and setweight(body, 'A') @@ 'a'
select lower(during) + '1 day', upper(seats) - 1, isempty(seats * int4range(1, 5)), seats -|- '[5,9)', tstzrange('2021-01-01', null, '[)') * during from ticket where during @> now() and during && tstzrange('2021-01-01', now() - interval '1 day') and seats @> 3 and seats <@ int4range(1, 100, '[]') and 5 <@ seats and daterange('2021-01-01', '2021-02-01') @> day
select feeling > 'sad', feeling::text || 'x', enum_range('sad'::mood, 'ok'), 'ok'::mood < feeling, array['sad', feeling]::mood[] from ticket where feeling in ('sad', 'happy') and feeling between 'sad' and 'ok' and feeling = coalesce(null, 'ok'::mood) and feeling <> all(enum_range(null, 'sad'::mood)) order by feeling = 'ok' desc, feeling
select code || 'x', owed + 1, owed::numeric % 7, 'ABC'::code, cast(5 as amount) * 2, coalesce(code, 'ABC'), upper('abc')::code from ticket where code = 'ABC' and owed > 5 and owed between 1 and 1.5 and code like 'A%' and code >= 'B' and nullif(owed, 0) > 2
select (home).street || 'x', (home).number + 1, row('a', 1)::address, ('b', 2)::address = home, (row('x', 5)::address).number * 2 from ticket where (home).number = 5 and home = ('a', 1) and (home).street in ('a', 'b') and home is distinct from row('c', 3)
select id % 3, count(*), 'const', 5 from ticket group by 1, 3, 4 order by 1, 2 desc, 3 limit 10
select id, 'a' as kind, null as more, 1.5 as n from ticket where id = 1 union select id, name, 'x', 2 from product where size > 5 union all (select 3, 'b', null, 0.5 order by 1 limit 1) intersect all select 4, 'c', 'y', 7 except select 5, 'd', 'z', 8 order by 2, 4 desc nulls last limit 5
select total_of(1), total_of(1, 2) + 1, total_of(id, 5), label('x') || 'y', label(5), label(id + 1), num_nonnulls(1, null, 'a'), pg_typeof('a')::text, quote_literal('a'), format('%s-%L', 1, 'b'), md5('x'), encode('abc', 'hex'), sha256('a') = raw, set_byte(raw, 0, 5) from ticket
select round(5.5), round(share::numeric, 2), power(2, 0.5), mod(10, 3), 7 / 2, 7.0 / 2, -5 % 3, 2 ^ 3 ^ 2, 5 | 3, ~ 1, 1 << 4, @ -5, |/ 16, abs(-1.5), sqrt(2), width_bucket(5.3, 0.2, 10.6, 5), random() * 100, trunc(random() * 10)::int + 1 from (select 1) one(share)
select exists (select 1 from ticket where id = 5), (select max(id) from ticket where id < 10) + 1, 5 > all (select id from ticket where flag), (select 1) = (select 2), (select 'a') || 'b', not exists (select 'x'), array(select 1) || 2, (select row(1, 'a')) is null, 3 = some (values (1), (2))
select id from ticket where code ~ '^A' and code !~* 'b' and code ilike any(array['a%', 'b%']) and code not like all('{x%,y%}') and code similar to '(A|B)%' and code ^@ 'A' and regexp_match(code, '(.)') <> '{X}' and regexp_replace(code, 'A', 'B', 'gi') = 'x' and regexp_split_to_array(code, ',') @> '{a}' and code collate "C" > 'a'
select origin << '10.0.0.0/8', origin + 5, host(origin) || ':80', set_masklen(origin, 24), uid = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', raw || '\x00', raw = '\xdeadbeef', get_byte(raw, 0) + 1, bit '101' | b'010', x'1f'::bit(8), substring(raw from 1 for 2), lasted > '1 day', flag = 'true', flag is not true from ticket where origin <<= inet '192.168.0.0/16'
select id from ticket where flag and 1 = 1 and not false and ('a' = 'a' or 1 < 2) and null is null and true is not false and (2 > 1) = true and id is distinct from 5 and code is not distinct from 'ABC'
select sum(1) + 1, avg(5), count('x'), max('y') || 'z' from (select greatest(1, 2), 3) a(x, y), lateral (select $q$it's; "x"$q$ || E'\n' || U&'\0061') b, (select count(distinct 5)) c group by x having min('a') < 'b'
select sum(id * 1.5 + 2) / count(*) * 100 - 1, avg(id % 2), bool_and(id > 0 and 1 = 1), array_agg(id + 1 order by id + 1), json_object_agg('k' || id, 5), xmlelement(name x, 'a'), string_agg('x', ','), stddev(id + 0.5), corr(id, id * 2), regr_slope(1, 2), max(array[1, id]), min(row(1, id)::text) from ticket
with n as (insert into stock (product, place, amount) values (1, 2, 3) on conflict (product, place) do nothing returning amount + 1 as a), d as (delete from stock where amount < -5 returning 'gone' as word), u as (update stock set amount = 5 + (select coalesce(max(a), 0) from n) where product = 1 returning amount % 3 as m) select a, word || '!', m + 1 from n left join d on 1 = 2 cross join u where m < 3
select id from ticket for update of ticket skip locked limit 1
table ticket order by id limit 3
select * from ticket t tablesample bernoulli (10.5) repeatable (42) where t.id % 2 = 1 order by t.id + 1 fetch first 3 rows with ties
select distinct on (id % 5, code) id % 5, code, owed + 1 from ticket where id > 10 order by id % 5, code, owed + 1 desc limit 5
"#;

pub(crate) fn statements() -> impl Iterator<Item = &'static str> {
    STATEMENTS.lines().map(str::trim).filter(|line| !line.is_empty())
}
