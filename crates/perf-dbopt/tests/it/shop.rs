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

pub(crate) fn statements() -> impl Iterator<Item = &'static str> {
    STATEMENTS.lines().map(str::trim).filter(|line| !line.is_empty())
}
