//! A shop in PostgreSQL, and statements over it that contain every form whose constants PREPARE cannot do without.

pub(crate) const SCHEMA: &str = "
create table customer (id int primary key, name text not null, nation int not null, segment char(10), balance numeric(12,2), since date, props jsonb default '{}');
create table product (id int primary key, name text not null, brand text, kind text, size int, price numeric(10,2), tags text[], added timestamptz);
create table orders (id int primary key, customer int not null, status text not null, total numeric(12,2), day date not null, at timestamp, deleted_at timestamptz);
create table item (orders int not null, line int not null, product int not null, quantity int, price numeric(10,2), discount numeric(4,2), shipped date, received date, primary key (orders, line));
create table stock (product int, place int, amount int, cost double precision, updated timestamp, primary key (product, place));
";

pub(crate) const ROWS: &str = "
select setseed(0.5);
insert into customer select i, 'customer ' || i, (random() * 24)::int, 'seg' || i % 5, random() * 1000, date '2015-01-01' + i % 3000, '{}' from generate_series(1, 5000) i;
insert into product select i, 'product ' || i, 'brand ' || (random() * 24)::int, 'kind ' || (random() * 149)::int, i % 50, 10 + i % 1000, array['a', 'b'], now() from generate_series(1, 5000) i;
insert into orders select i, 1 + (random() * 4999)::int, case when i % 100 = 0 then 'open' else 'done' end, i % 900, date '2020-01-01' + (random() * 1500)::int, '2020-01-01'::timestamp + i * interval '1 minute', case when i % 50 = 0 then now() end from generate_series(1, 50000) i;
insert into item select i / 4, i % 4, 1 + (random() * 4999)::int, i % 50, i % 90, 0.05, date '2020-01-01' + (random() * 1500)::int, date '2020-01-05' + i % 1500 from generate_series(4, 200003) i;
insert into stock select i / 4, i % 4, i % 999, i, now() from generate_series(4, 20003) i;
vacuum analyze;
";

/// One per line; literals as an application or a person would write them.
pub(crate) const STATEMENTS: &str = "
select * from orders where day >= date '2021-01-01' and day < date '2021-01-01' + interval '3' month
select * from orders where day between date '2021-01-01' and date '2021-01-01' + 30
select * from orders where day > date '2021-01-01' - interval '90 days'
select * from orders where at > timestamp '2021-01-01 00:00' and at < timestamp '2021-01-02'
select * from product where added > timestamptz '2020-01-01 00:00+00'
select * from product where added > timestamp with time zone '2020-01-01 00:00+00'
select * from orders where at::time > time '08:00'
select extract(year from day), sum(total) from orders group by extract(year from day)
select extract(month from at) + 1 from orders where extract(year from at) = 2020
select date_trunc('month', at), count(*) from orders group by 1 order by 1
select sum(case when status = 'open' then 1 else 0 end) from orders
select sum(case when status = 'open' then total else 0 end) / sum(total) * 100 from orders
select avg(case when size > 10 then 1.5 else 0 end) from product
select sum(price * (1 - discount)) from item where shipped <= date '2022-12-01' - interval '90' day
select sum(price * (1 - discount) * (1 + 0.1)) from item where quantity < 24 and discount between 0.05 - 0.01 and 0.05 + 0.01
select 1 + 2
select 1 + 2 * 3, 'a' || 'b'
select -5, - (3 + 4)
select round(1.2345, 2), round(avg(price), 2) from product
select substring(name from 1 for 3), count(*) from customer group by 1
select substr(name, 1, 2) from customer where substr(name, 1, 2) in ('cu', 'xx')
select * from customer where name like 'customer 1%' and segment = 'seg1'
select * from customer where name ilike '%7%' escape '!'
select * from customer where (nation, segment) in ((1, 'seg1'), (2, 'seg2'))
select * from customer where nation = any(array[1, 2, 3])
select * from customer where id in (1, 2, 3) limit 10 offset 5
select * from customer where balance > (select 0.2 * avg(balance) from customer) order by balance desc limit 3
select coalesce(max(total), 0) from orders where customer = 17
select coalesce(name, 'none') from customer where nullif(nation, 0) = 3
select greatest(total, 100), least(total, 5) from orders where id = 3
select count(*) filter (where status = 'open') from orders where day > '2021-01-01'
select * from generate_series(1, 10) g
select d::date from generate_series(timestamp '2021-01-01', timestamp '2021-02-01', interval '1 day') d
select to_char(day, 'YYYY-MM'), count(*) from orders group by 1
select * from product where tags @> array['a']
select * from customer where props ->> 'color' = 'red' and props @> '{\"a\": 1}'
select props #>> '{a,b}' from customer where props ? 'x'
select id, rank() over (partition by nation order by balance desc) from customer where balance > 10
select id, lag(total, 1, 0) over (order by day) from orders
select ntile(4) over (order by balance) from customer
with r as (select customer, sum(total) as t from orders where day > date '2021-06-01' group by 1) select * from r where t > 1000
with recursive n(i) as (select 1 union all select i + 1 from n where i < 10) select * from n
select 'x' as label, id from customer where id = 1 union all select 'y', id from product where id = 2
select c.name, o.total from customer c join orders o on o.customer = c.id where c.nation = 3 and o.status = 'open' order by o.total desc limit 10
select c.id from customer c left join orders o on o.customer = c.id and o.status <> 'open' where o.id is null
select p.name, sum(i.quantity) from item i join product p on p.id = i.product where i.shipped > date '2022-01-01' group by p.name having sum(i.quantity) > 300 order by 2 desc
select * from orders where exists (select 1 from item where item.orders = orders.id and item.quantity > 45)
select * from orders where customer not in (select id from customer where nation < 5)
insert into stock (product, place, amount, cost) values (9001, 1, 5, 1.5)
insert into stock select product, 9, sum(quantity) * 0.5, 1.0 from item where product < 3 group by product on conflict do nothing
update stock set amount = amount - 1, updated = now() where product = 3 and place = 1
update stock set cost = cost * 1.1 where amount < 5 and updated < now() - interval '1 year'
update orders set status = case when total > 500 then 'big' else 'small' end where id = 77
delete from stock where product = 9001
delete from item using orders where orders.id = item.orders and orders.day < date '2000-01-01'
with gone as (delete from stock where amount = -1 returning product) select count(*) from gone
merge into stock s using (select 1 as product, 1 as place) n on s.product = n.product and s.place = n.place when matched then update set amount = s.amount + 1 when not matched then insert (product, place, amount) values (n.product, n.place, 1)
select id from orders where id = 5 for update
select age(timestamp '2021-01-01', at) from orders where id = 4
select day + 7, day - 7, day - date '2020-01-01' from orders where id = 9
select interval '1 day' * 3, now() - interval '2 hours'
select cast('2021-01-01' as date) + cast(5 as int)
select cost / 3, cost ^ 2, amount % 7, amount << 2 from stock where product = 4
select row(1, 'a'), array[1, 2] || 3
select * from (values (1, 'a'), (2, 'b')) v(n, t) where n > 1
select count(distinct case when status = 'open' then customer end) from orders where not (total > 5 and total < 10)
select string_agg(name, ', ' order by name) from product where size = 7 and price > 500.00
select position('x' in name), overlay(name placing 'y' from 2 for 1), trim(leading 'c' from name) from customer where id = 1
select percentile_cont(0.5) within group (order by total) from orders where customer = 5
select distinct on (customer) customer, total from orders where day = '2021-05-05' order by customer, total desc
select sum(1), avg(2), max('x'), count(3) from orders where id < 100
";

/// Forms of decision support and of generated SQL, over the same tables: constants in every place PREPARE cannot type.
pub(crate) const HARD: &str = "
select * from (select c.nation, sum(o.total) as t, rank() over (partition by c.nation order by sum(o.total) desc) as r from customer c, orders o where o.customer = c.id and o.day between cast('2021-01-01' as date) and (cast('2021-01-01' as date) + interval '60 days') group by rollup(c.nation)) x where r <= 10 order by t desc limit 100
select grouping(nation) + grouping(segment) as level, case when grouping(nation) = 0 then segment end, rank() over (partition by grouping(nation) + grouping(segment), case when grouping(nation) = 0 then segment end order by sum(balance) desc) from customer group by rollup(nation, segment) having sum(balance) > 10 limit 5
select 'store' as channel, 'a' as col, sum(total) from orders where day >= '2021-01-01' union all select 'web', null, sum(price) from item where quantity > 3 order by 1
select sum(case when extract(dow from day) = 0 then total else null end) as sun, sum(case when extract(dow from day) = 1 then total else null end) as mon from orders
select a.t / b.t, round(a.t / b.t, 2) from (select sum(total) * 1.0 as t from orders where status = 'open') a, (select sum(total) + 0.5 as t from orders) b
select name || ', ' || coalesce(brand, 'x') as label, 'prefix' || id from product where size between 10 and 10 + 11
select substr(name, 1, 5), count(*) from product where kind in ('kind 1', 'kind 2') group by substr(name, 1, 5) having count(*) > 0.1 * 5
select stddev_samp(total) / avg(total) as cov from orders group by customer having case avg(total) when 0 then 0 else stddev_samp(total) / avg(total) end > 1
select case when count(*) > 50 then avg(price) else avg(discount) end from item where quantity between 1 and 20
select (case when (select count(*) from item where quantity between 1 and 20) > 25437 then (select avg(price) from item where quantity between 1 and 20) else 0.5 end) as bucket from customer where id = 1
select customer from orders where day > '2021-01-01' intersect select id from customer where nation = 3 except select 7
select count(*) from ((select distinct name, since from customer where since between '2016-01-01' and '2017-01-01') except (select name, day from customer c, orders o where c.id = o.customer and status = 'x')) cool
select coalesce(sum(total), 0) - coalesce(sum(total) * 0.1, 0.0) as profit from orders left join item on item.orders = orders.id and item.line = 1 where day between date '2021-01-01' and date '2021-01-01' + interval '14' day
select cast(sum(case when at between '2021-01-01 08:00' and '2021-01-01 09:00' then 1 else 0 end) as decimal(15,4)) / cast(count(*) as decimal(15,4)) * 100 from orders
select (cast(amount as numeric) / nullif(cost, 0)) * 10 from stock where amount > 0.9 * cost and place = 1
select max(total), min(total) + 1, avg(total * 1.1 - 2), count(*) * 2 from orders where status in ('open', 'done') and total / 10 > 1
select * from orders where (status = 'open' and total between 100 and 150) or (status = 'done' and (total between 50 and 100 or customer + 1 = 8)) limit 3
select extract(year from at) - 1, extract(epoch from at) / 60, extract(day from (at - interval '1 day')) from orders where extract(month from at) in (1, 2) and extract(year from at) = 2020 + 1
select date_part('year', at), date_trunc('week', at) + interval '1 week', to_char(at, 'IYYY') from orders where at >= now() - interval '30 days' and at < current_date + 1
select at + '1 day', at - '1 hour'::interval, day + interval '1 month' * 2, age(at, timestamp '2020-01-01') from orders where id = 1
select greatest(1, 2.5, total), least('a', status), nullif(status, 'x'), coalesce(note.v, 'none', status) from orders, (values ('q')) note(v) where id < 3
select array_agg(id order by id desc) filter (where total > 3), array_agg(distinct status || '!') from orders where customer = any('{1,2,3}'::int[])
select * from product where tags && array['a', 'b'] and 'a' = any(tags) and array_length(tags, 1) > 1 and tags[1] = 'a'
select props -> 'a' ->> 'b', props -> 0, props #> '{a,0}', jsonb_array_length(props -> 'list') + 1 from customer where props ? 'a' or props ?| array['x', 'y'] or (props ->> 'age')::int > 18
select jsonb_build_object('id', id, 'kind', 'x', 'n', 5), jsonb_set(props, '{a}', '1'), props || '{\"k\": 1}' from customer where props @> '{\"a\": [1]}' limit 1
select json_agg(row_to_json(t)) from (select id, name, 1 as one, 'x' as x, null as nothing from customer order by id limit 2) t
select name similar to '%(a|b)%', name ~ '^c', name ~* 'C', name !~ 'z', name like 'a%' escape '!' , starts_with(name, 'cu') from customer where id = 1
select regexp_replace(name, 'a', 'b', 'g'), split_part(name, ' ', 2), lpad(name, 10, '*'), repeat('x', 3), left(name, 3), concat(name, '-', 5), format('%s %s', name, 1) from customer where length(name) > 3 + 1
select md5('a' || id), chr(65), ascii('a'), upper('x'), initcap(name), reverse('abc'), translate(name, 'abc', 'xyz'), replace(name, 'a', '') from customer limit 1
select width_bucket(total, 0, 1000, 10), mod(customer, 7), abs(-5), sign(total - 5), power(2, 3), trunc(total / 7, 1), ceil(total * 1.5), div(9, 2), log(10, 100) from orders limit 1
select total::int % 2, total::text || 'x', '5'::int + 3, cast('1.5' as numeric) * 2, 1::bigint << 2, b'101' & b'100', 5 & 3, 5 # 1, ~ 5, @ -3, |/ 25.0, 2 ^ 3 from orders limit 1
select first_value(total) over w, nth_value(total, 2) over w, lead(total, 2, 0.0) over w, sum(total) over (order by id rows between 3 preceding and 1 following), avg(total) over (order by day range between interval '7 days' preceding and current row) from orders where customer = 4 window w as (partition by status order by day)
select * from customer tablesample system (10) where id > 5
select * from orders where (customer, day) > (5, '2021-01-01') order by customer, day fetch first 5 rows only
select * from orders where row(customer, status) in (select id, 'open' from customer where nation = 2) or (customer, status) = (3, 'done')
select * from customer where exists (select 1 from orders where customer.id = orders.customer and total > 100 having count(*) > 2)
select c.id, l.total from customer c left join lateral (select total from orders where customer = c.id and status <> 'x' order by day desc limit 3) l on true where c.nation = 1
select * from unnest(array[1, 2], array['a', 'b']) as u(n, t) where n + 1 > 1 and t || 'x' <> 'y'
select g, g * 2, date '2021-01-01' + g from generate_series(1, 10, 2) g where g % 2 = 1
select day, sum(sum(total)) over (order by day), sum(total) * 100 / sum(sum(total)) over (partition by 1) from orders group by day
with recursive t(n, path) as (select 1, array[1] union all select n + 1, path || (n + 1) from t where n < 5) select n, path from t where n % 2 = 0
with a as materialized (select customer, 'x' as tag, 1.5 as f from orders where total > 5), b as (select * from a where f > 1) select tag || 'y', f * 2 from b limit 1
with up as (update stock set amount = amount + 5 where product = 1 returning product, amount * 2 as doubled), ins as (insert into stock (product, place, amount) select product, 77, doubled from up on conflict (product, place) do update set amount = excluded.amount + 1 returning 1 as one) select one + 1 from ins
insert into orders (id, customer, status, total, day) values (900001, 1, 'open', 10.5 * 2, date '2021-01-01' + 3), (900002, 2, 'x' || 'y', 1 + 1, '2021-01-02')
insert into customer (id, name, nation, props) select 900000 + 1, 'n' || 5, 3, jsonb_build_object('a', 1) where not exists (select 1 from customer where id = 900001) returning id, name || '!'
update orders set total = total * (1 + 5 / 100.0), status = coalesce(null, 'done'), day = day + 1, at = at + interval '1 hour' where id in (900001, 900002) and (day - date '2020-01-01') > 3
update customer set props = jsonb_set(props, array['a'], to_jsonb(5)), balance = greatest(balance - 10.5, 0), since = coalesce(since, '2020-01-01') from orders where orders.customer = customer.id and orders.id = 900001
update customer set (name, nation) = ('x' || name, 5), balance = default where id = 900001
delete from orders where id = any(array[900001, 900002]) and total > 0.1 returning id, total + 1
delete from customer using (values (900001), (900003)) as gone(id) where customer.id = gone.id and name like '%' || 'x' || '%'
select count(*) from orders o where o.at > (select max(at) - interval '7 days' from orders) and o.total > all (select 5 union select 6)
select nullif(a.n, 0)::numeric / b.n as share from (select count(*) as n from orders where status = 'open') a cross join (select count(*) as n from orders where total > 1) b
select case status when 'open' then 1 when 'done' then 2 else 3 end as rank, count(*) from orders group by 1 having count(*) > 5 order by case when 1 = 2 then 3 else 4 end
select case when total > 5 then 'big' when total > 1 then null else 'small' end || '!' as size, decode('QUJD', 'base64') from orders limit 1
select (select 5) + 1, (select max(total) from orders where id = 5) * 1.1, exists (select 1), 3 in (1, 2, 3), 5 between 1 and 10, not (1 = 2), null is null, true and 1 < 2
select distinct on (customer) customer, day, total - lag(total) over (partition by customer order by day) > 5 as jump from orders where customer < 10 order by customer, day desc
select sum(total) filter (where day >= '2021-01-01' and day < '2021-02-01') / nullif(sum(total), 0) * 100, mode() within group (order by status), percentile_disc(array[0.25, 0.75]) within group (order by total) from orders
select * from orders where at at time zone 'UTC' > timestamptz '2021-01-01 00:00:00+00' and at::date = '2021-01-01' and date(at) <> date '2021-01-02' and at::time between '08:00' and '18:00' limit 1
select customer, count(*) from orders group by cube (customer, status), grouping sets ((day), ()) order by 2 desc, 1 nulls last offset 3 rows fetch next 7 rows only
select bool_or(total > 5), every(customer <> 3), bit_or(customer), string_agg(distinct status, '|'), count(*) filter (where status like 'o%') from orders where tsrange(at, at + interval '1 day') @> timestamp '2021-01-01' or daterange('2021-01-01', '2021-02-01') @> day
select to_tsvector('english', name) @@ to_tsquery('english', 'a & b'), ts_rank(to_tsvector(name), plainto_tsquery('x')), id % 2 from customer limit 0
select inet '10.0.0.1' << inet '10.0.0.0/8', point(1, 2) <-> point '(3,4)', money '5' * 2, uuid '00000000-0000-0000-0000-000000000000', '{1,2}'::int[] || 3, int4range(1, 5) * int4range(2, 9)
select numeric '1.5' + 2, double precision '2.5' * 2, bigint '7' % 2, boolean 'true' and true, text 'a' || 'b', varchar 'x', char(3) 'abc', bytea 'x', jsonb '{\"a\":1}' -> 'a', int2 '3', bit(3) '101', integer '5' - 1
select current_date - 30, current_timestamp - interval '1 day' * 5, localtime + interval '5 minutes', now()::date - 7, make_date(2021, 1, 1) + 5, make_interval(days => 3), date_part('day', now() - '2021-01-01'::timestamp), to_date('2021', 'YYYY'), to_timestamp(0) + '1 day'
";

pub(crate) fn hard() -> impl Iterator<Item = &'static str> {
    HARD.lines().map(str::trim).filter(|line| !line.is_empty())
}

pub(crate) fn statements() -> impl Iterator<Item = &'static str> {
    STATEMENTS.lines().map(str::trim).filter(|line| !line.is_empty())
}
