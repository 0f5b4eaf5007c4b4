//! A shop of 28 tables with skew, soft deletion, jsonb and a partitioned log, the queries of its pages, and its writes.

use crate::contest::{Effort, compare};
use crate::rivals::Memory;
use crate::{AnyError, run};
use perf_core::Rng;
use perf_core::time::{Duration, now};
use perf_dbopt::advise::IndexDef;
use perf_dbopt::{Dialect, Workload};
use sqlx::PgConnection;

/// `random() ^ 3` makes few customers and products busy and most of them quiet.
pub(crate) const SCHEMA: &str = "
select setseed(0.25);
create table country (id int primary key, code text not null, name text);
create table city (id int primary key, country_id int not null, name text, population int);
create table warehouse (id int primary key, city_id int not null, name text);
create table supplier (id int primary key, country_id int not null, name text, rating numeric(3,1));
create table brand (id int primary key, name text, supplier_id int);
create table category (id int primary key, parent_id int, slug text not null, name text);
create table product (id int primary key, brand_id int, sku text not null, title text not null, status text not null, added date not null, attributes jsonb, deleted_at timestamptz);
create table product_category (product_id int, category_id int, primary key (product_id, category_id));
create table price (product_id int, currency text, amount numeric(10,2), valid_from date, primary key (product_id, currency, valid_from));
create table stock (warehouse_id int, product_id int, amount int not null, reserved int not null default 0, primary key (warehouse_id, product_id));
create table customer (id int primary key, email text not null, name text, city_id int, tier text not null, created date not null, deleted_at timestamptz, settings jsonb);
create table address (id int primary key, customer_id int not null, city_id int, line text, is_default boolean not null);
create table account (customer_id int primary key, balance numeric(12,2) not null, updated timestamptz not null);
create table session (id int primary key, customer_id int, token text not null, started timestamptz not null, last_seen timestamptz not null);
create table cart (id int primary key, customer_id int not null, state text not null, updated timestamptz not null);
create table cart_item (cart_id int, product_id int, quantity int not null, primary key (cart_id, product_id));
create table orders (id int primary key, customer_id int not null, status text not null, placed timestamptz not null, total numeric(12,2) not null, coupon_id int, note text, deleted_at timestamptz);
create table order_item (order_id int, line int, product_id int not null, quantity int not null, price numeric(10,2) not null, primary key (order_id, line));
create table payment (id int primary key, order_id int not null, method text not null, state text not null, amount numeric(12,2), created timestamptz not null);
create table shipment (id int primary key, order_id int not null, warehouse_id int not null, state text not null, shipped timestamptz);
create table refund (id int primary key, payment_id int not null, reason text, created timestamptz not null);
create table coupon (id int primary key, code text not null, kind text, expires date);
create table coupon_use (coupon_id int, customer_id int, used timestamptz not null);
create table review (id int primary key, product_id int not null, customer_id int not null, stars int not null, created date not null, body text, approved boolean not null);
create table ticket (id int primary key, customer_id int not null, order_id int, state text not null, priority int not null, opened timestamptz not null, closed timestamptz);
create table message (id int primary key, ticket_id int not null, author text, sent timestamptz not null, body text);
create table event (at timestamptz not null, customer_id int, kind text not null, payload jsonb) partition by range (at);
create table event_1 partition of event for values from ('2024-01-01') to ('2024-02-01');
create table event_2 partition of event for values from ('2024-02-01') to ('2024-03-01');
create table event_3 partition of event for values from ('2024-03-01') to ('2024-04-01');
create table event_4 partition of event for values from ('2024-04-01') to ('2024-05-01');
create table audit (id int primary key, actor_id int, entity text not null, entity_id int not null, at timestamptz not null, change jsonb);
insert into country select i, 'c' || i, 'country ' || i from generate_series(1, 60) i;
insert into city select i, 1 + i % 60, 'city ' || i, i * 100 from generate_series(1, 2000) i;
insert into warehouse select i, i * 50, 'warehouse ' || i from generate_series(1, 20) i;
insert into supplier select i, 1 + i % 60, 'supplier ' || i, i % 10 from generate_series(1, 500) i;
insert into brand select i, 'brand ' || i, 1 + i % 500 from generate_series(1, 800) i;
insert into category select i, i / 8, 'category-' || i, 'category ' || i from generate_series(1, 400) i;
insert into product select i, 1 + (800 * random() ^ 2)::int % 800, 'SKU' || i, 'product ' || i || ' ' || md5(i::text), case when i % 20 = 0 then 'draft' else 'active' end, date '2022-01-01' + i % 800, jsonb_build_object('color', (array['red','blue','green','black'])[1 + i % 4], 'weight', i % 300), case when i % 30 = 0 then timestamptz '2024-02-01' end from generate_series(1, 20000) i;
insert into product_category select i, 1 + (i * 7 + j * 131) % 400 from generate_series(1, 20000) i, generate_series(1, 2) j on conflict do nothing;
insert into price select i, c, 5 + i % 500, d from generate_series(1, 20000) i, unnest(array['EUR','USD']) c, unnest(array[date '2023-01-01', date '2024-01-01']) d;
insert into stock select w, p, (random() * 200)::int, 0 from generate_series(1, 20) w, generate_series(1, 20000, 4) p;
insert into customer select i, 'user' || i || '@example.org', 'user ' || i, 1 + i % 2000, case when i % 100 = 0 then 'gold' when i % 10 = 0 then 'silver' else 'none' end, date '2020-01-01' + i % 1500, case when i % 25 = 0 then timestamptz '2024-01-15' end, '{\"mail\": true}' from generate_series(1, 50000) i;
insert into address select i, 1 + i % 50000, 1 + i % 2000, 'street ' || i, i <= 50000 from generate_series(1, 70000) i;
insert into account select i, i % 1000, timestamptz '2024-01-01' from generate_series(1, 50000) i;
insert into session select i, 1 + (49999 * random() ^ 3)::int, md5(i::text), timestamptz '2024-04-01' + i * interval '20 seconds', timestamptz '2024-04-01' + i * interval '21 seconds' from generate_series(1, 100000) i;
insert into cart select i, 1 + (49999 * random())::int, case when i % 10 = 0 then 'open' else 'done' end, timestamptz '2024-01-01' + i * interval '2 minutes' from generate_series(1, 60000) i;
insert into cart_item select i, 1 + (i * 13 + j * 7919) % 20000, 1 + j from generate_series(1, 60000) i, generate_series(1, 2) j on conflict do nothing;
insert into orders select i, 1 + (49999 * random() ^ 3)::int, case when i % 200 = 0 then 'new' when i % 50 = 0 then 'packed' when i % 400 = 1 then 'failed' else 'done' end, timestamptz '2022-06-01' + i * interval '5 minutes', (random() * 400)::numeric(12,2), case when i % 15 = 0 then i % 300 end, null, case when i % 100 = 7 then timestamptz '2024-02-02' end from generate_series(1, 200000) i;
insert into order_item select i, j, 1 + (19999 * random() ^ 2)::int, 1 + j, (random() * 100)::numeric(10,2) from generate_series(1, 200000) i, generate_series(1, 2) j;
insert into payment select i, i, case when i % 3 = 0 then 'card' else 'invoice' end, case when i % 150 = 0 then 'open' else 'settled' end, i % 400, timestamptz '2022-06-01' + i * interval '5 minutes' from generate_series(1, 200000) i;
insert into shipment select i, i, 1 + i % 20, case when i % 120 = 0 then 'waiting' else 'delivered' end, timestamptz '2022-06-03' + i * interval '5 minutes' from generate_series(1, 190000) i;
insert into refund select i, i * 30, 'reason ' || i % 9, timestamptz '2023-01-01' + i * interval '1 hour' from generate_series(1, 6000) i;
insert into coupon select i, 'CODE' || i, 'k' || i % 3, date '2024-01-01' + i from generate_series(1, 300) i;
insert into coupon_use select 1 + i % 300, 1 + (49999 * random())::int, timestamptz '2023-01-01' + i * interval '30 minutes' from generate_series(1, 13000) i;
insert into review select i, 1 + (19999 * random() ^ 3)::int, 1 + (49999 * random())::int, 1 + i % 5, date '2022-01-01' + i % 800, md5(i::text), i % 12 <> 0 from generate_series(1, 60000) i;
insert into ticket select i, 1 + (49999 * random())::int, i * 9, case when i % 40 = 0 then 'open' else 'closed' end, i % 4, timestamptz '2023-01-01' + i * interval '20 minutes', case when i % 40 <> 0 then timestamptz '2023-01-02' + i * interval '20 minutes' end from generate_series(1, 20000) i;
insert into message select i, 1 + i / 4, 'author ' || i % 50, timestamptz '2023-01-01' + i * interval '5 minutes', md5(i::text) from generate_series(1, 79000) i;
insert into event select timestamptz '2024-01-01' + i * interval '34 seconds', 1 + (49999 * random() ^ 3)::int, (array['view','view','view','view','click','click','buy'])[1 + i % 7], jsonb_build_object('product', i % 20000) from generate_series(1, 300000) i;
insert into audit select i, i % 40, (array['order','product','customer'])[1 + i % 3], i % 5000, timestamptz '2023-01-01' + i * interval '4 minutes', '{}' from generate_series(1, 100000) i;
";

/// Calls and text. `{customer}` and the like become a number in each call.
const READS: [(u64, &str); 60] = [
    (
        5000,
        "select id, status, placed, total from orders where customer_id = {customer} and deleted_at is null order by placed desc limit 20",
    ),
    (4000, "select count(*) from orders where customer_id = {customer} and status <> 'done'"),
    (9000, "select id, customer_id, last_seen from session where token = md5('{session}')"),
    (2000, "select id, started from session where customer_id = {customer} order by started desc limit 5"),
    (
        7000,
        "select id, name, tier from customer where email = 'user{customer}@example.org' and deleted_at is null",
    ),
    (3000, "select id, name from customer where lower(email) = 'user{customer}@example.org'"),
    (3000, "select id, line from address where customer_id = {customer} and is_default"),
    (
        3500,
        "select c.id, i.product_id, i.quantity from cart c join cart_item i on i.cart_id = c.id where c.customer_id = {customer} and c.state = 'open'",
    ),
    (8000, "select id, title, status from product where sku = 'SKU{product}'"),
    (6000, "select id, title, attributes from product where id = {product}"),
    (
        4000,
        "select p.id, p.title from product_category pc join product p on p.id = pc.product_id where pc.category_id = {category} and p.status = 'active' and p.deleted_at is null order by p.added desc limit 24",
    ),
    (2000, "select count(*) from product_category where category_id = {category}"),
    (
        1000,
        "select id, title from product where brand_id = {brand} and status = 'active' order by added desc limit 24",
    ),
    (200, "select id, title from product where status = 'draft' order by added limit 50"),
    (
        6000,
        "select amount from price where product_id = {product} and currency = 'EUR' order by valid_from desc limit 1",
    ),
    (5000, "select sum(amount - reserved) from stock where product_id = {product}"),
    (
        300,
        "select product_id, amount from stock where warehouse_id = {warehouse} and amount < 5 order by product_id limit 100",
    ),
    (
        4000,
        "select id, stars, body, created from review where product_id = {product} and approved order by created desc limit 10",
    ),
    (4000, "select avg(stars), count(*) from review where product_id = {product} and approved"),
    (500, "select id, product_id, stars from review where customer_id = {customer} order by created desc"),
    (100, "select id, product_id from review where not approved order by created limit 50"),
    (
        3000,
        "select o.id, i.product_id, i.quantity, i.price from orders o join order_item i on i.order_id = o.id where o.id = {order}",
    ),
    (3000, "select id, state, method, amount from payment where order_id = {order}"),
    (3000, "select id, state, shipped from shipment where order_id = {order}"),
    (200, "select id, order_id, amount from payment where state = 'open' order by created limit 100"),
    (
        200,
        "select s.id, s.order_id from shipment s where s.state = 'waiting' and s.warehouse_id = {warehouse} limit 100",
    ),
    (300, "select id, customer_id, total from orders where status = 'new' order by placed limit 100"),
    (300, "select id, customer_id, total from orders where status = 'packed' order by placed limit 100"),
    (50, "select id, customer_id from orders where status = 'failed' and placed > '2024-01-01'"),
    (
        20,
        "select date_trunc('day', placed), count(*), sum(total) from orders where placed >= '2024-03-01' and placed < '2024-04-01' group by 1 order by 1",
    ),
    (
        20,
        "select customer_id, sum(total) from orders where placed >= '2024-03-01' group by customer_id order by 2 desc limit 20",
    ),
    (
        10,
        "select p.brand_id, sum(i.quantity * i.price) from order_item i join product p on p.id = i.product_id join orders o on o.id = i.order_id where o.placed >= '2024-04-01' group by p.brand_id order by 2 desc limit 20",
    ),
    (
        500,
        "select o.id, o.placed, i.quantity from order_item i join orders o on o.id = i.order_id where i.product_id = {product} order by o.placed desc limit 20",
    ),
    (800, "select count(*), sum(quantity) from order_item where product_id = {product}"),
    (
        300,
        "select other.product_id, count(*) from order_item i join order_item other on other.order_id = i.order_id and other.product_id <> i.product_id where i.product_id = {product} group by other.product_id order by 2 desc limit 5",
    ),
    (
        100,
        "select r.id, r.reason from refund r join payment p on p.id = r.payment_id where p.order_id = {order}",
    ),
    (1500, "select id, kind, expires from coupon where code = 'CODE{coupon}'"),
    (1500, "select count(*) from coupon_use where coupon_id = {coupon} and customer_id = {customer}"),
    (600, "select id, state, opened from ticket where customer_id = {customer} order by opened desc"),
    (
        400,
        "select id, customer_id, priority from ticket where state = 'open' order by priority desc, opened limit 25",
    ),
    (600, "select id, author, sent, body from message where ticket_id = {ticket} order by sent"),
    (
        200,
        "select t.id, count(m.id) from ticket t left join message m on m.ticket_id = t.id where t.state = 'open' group by t.id",
    ),
    (400, "select at, kind, payload from event where customer_id = {customer} order by at desc limit 50"),
    (100, "select kind, count(*) from event where at >= '2024-03-10' and at < '2024-03-11' group by kind"),
    (50, "select count(*) from event where kind = 'buy' and at >= '2024-04-01' and at < '2024-04-08'"),
    (
        200,
        "select payload ->> 'product', count(*) from event where customer_id = {customer} and kind = 'view' group by 1 order by 2 desc limit 10",
    ),
    (
        300,
        "select id, actor_id, at from audit where entity = 'order' and entity_id = {ticket} order by at desc limit 20",
    ),
    (
        50,
        "select id, entity, entity_id from audit where actor_id = 7 and at > '2023-09-01' order by at desc limit 50",
    ),
    (1000, "select id, name from city where country_id = {country} order by name"),
    (1000, "select id, name from category where parent_id = {country}"),
    (1000, "select id from category where slug = 'category-{category}'"),
    (
        200,
        "select b.id, b.name from brand b join supplier s on s.id = b.supplier_id where s.country_id = {country}",
    ),
    (
        10,
        "select ci.name, count(*) from customer c join city ci on ci.id = c.city_id where c.tier = 'gold' group by ci.name order by 2 desc limit 10",
    ),
    (
        10,
        "select tier, count(*) from customer where created >= '2023-01-01' and deleted_at is null group by tier",
    ),
    (50, "select id, email from customer where deleted_at is not null and city_id = {country}"),
    (20, "select id, title from product where attributes ->> 'color' = 'red' and brand_id = {brand}"),
    (100, "select id from cart where state = 'open' and updated < '2024-01-10' order by updated limit 100"),
    (500, "select balance from account where customer_id = {customer}"),
    (
        20,
        "select c.id from customer c where not exists (select 1 from orders o where o.customer_id = c.id) and c.created < '2020-02-01'",
    ),
    (
        30,
        "select o.status, count(*) from orders o join shipment s on s.order_id = o.id where s.warehouse_id = {warehouse} and s.shipped > '2024-04-01' group by o.status",
    ),
];

const WRITES: [(u64, &str); 12] = [
    (
        800,
        "insert into orders (id, customer_id, status, placed, total) values ({new}, {customer}, 'new', timestamptz '2024-05-01', 10)",
    ),
    (
        1600,
        "insert into order_item (order_id, line, product_id, quantity, price) values ({new}, {new}, {product}, 1, 10)",
    ),
    (
        800,
        "insert into payment (id, order_id, method, state, amount, created) values ({new}, {order}, 'card', 'open', 10, timestamptz '2024-05-01')",
    ),
    (
        1500,
        "update stock set reserved = reserved + 1 where product_id = {product} and warehouse_id = {warehouse}",
    ),
    (800, "update orders set status = 'done' where id = {order}"),
    (800, "update payment set state = 'settled' where id = {order}"),
    (5000, "update session set last_seen = timestamptz '2024-05-01' where id = {session}"),
    (
        1500,
        "update account set balance = balance + 1, updated = timestamptz '2024-05-01' where customer_id = {customer}",
    ),
    (
        3000,
        "insert into event (at, customer_id, kind, payload) values (timestamptz '2024-04-15', {customer}, 'view', '{}')",
    ),
    (1000, "update cart set updated = timestamptz '2024-05-01' where id = {session}"),
    (
        300,
        "insert into review (id, product_id, customer_id, stars, created, body, approved) values ({new}, {product}, {customer}, 4, '2024-05-01', 'good', false)",
    ),
    (
        500,
        "insert into audit (id, actor_id, entity, entity_id, at, change) values ({new}, 3, 'order', {ticket}, timestamptz '2024-05-01', '{}')",
    ),
];

fn fill(text: &str, rng: &mut Rng, new: &mut u64) -> String {
    let mut sql = text.to_owned();
    let ranges = [
        ("{customer}", 50_000),
        ("{product}", 20_000),
        ("{order}", 200_000),
        ("{session}", 60_000),
        ("{category}", 400),
        ("{brand}", 800),
        ("{warehouse}", 20),
        ("{coupon}", 300),
        ("{ticket}", 5_000),
        ("{country}", 50),
    ];
    for (name, many) in ranges {
        sql = sql.replace(name, &(1 + rng.below(many)).to_string());
    }
    *new += 1;
    sql.replace("{new}", &new.to_string())
}

/// Reads and writes with their calls.
pub(crate) fn workload() -> Workload {
    let (mut rng, mut new) = (Rng::seeded(3), 10_000_000);
    READS.iter().chain(&WRITES).fold(Workload::new(Dialect::Postgres), |workload, (calls, text)| {
        workload.with(&fill(text, &mut rng, &mut new), *calls)
    })
}

/// What a stretch of mixed work took.
#[derive(Clone, Debug, Default)]
struct Mixed {
    reads: Vec<f64>,
    writes: Vec<f64>,
}

/// Statements by their calls, in an order of chance, for a while.
async fn mixed(conn: &mut PgConnection, time: Duration, new: &mut u64) -> Result<Mixed, AnyError> {
    let all: Vec<(u64, &str, bool)> = READS
        .iter()
        .map(|(calls, text)| (*calls, *text, false))
        .chain(WRITES.iter().map(|(calls, text)| (*calls, *text, true)))
        .collect();
    let calls: u64 = all.iter().map(|(calls, ..)| calls).sum();
    let (mut rng, mut mixed, begin) = (Rng::seeded(9), Mixed::default(), now());
    while begin.elapsed() < time {
        let mut place = rng.below(calls);
        for (calls, text, writes) in &all {
            if place < *calls {
                let sql = fill(text, &mut rng, new);
                let start = now();
                run(conn, &sql).await?;
                let taken = start.elapsed().as_secs_f64() * 1e6;
                if *writes {
                    mixed.writes.push(taken);
                } else {
                    mixed.reads.push(taken);
                }
                break;
            }
            place -= calls;
        }
    }
    Ok(mixed)
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len().max(1) as f64
}

fn p95(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() * 95 / 100]
}

/// The mixed load without and with the recommended indexes, in turn: reads must gain, writes must not suffer.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
pub(crate) async fn load(conn: &mut PgConnection, budget: f64) -> Result<(), AnyError> {
    let chosen = compare(conn, "shop", &workload(), budget, &Effort::USUAL, &mut Memory::new()).await?.ours;
    // A database that is used again holds the rows of earlier runs.
    let mut new = 20_000_000 + 1_000_000 * Rng::from_entropy().below(1_000);
    let (mut without, mut with) = (Mixed::default(), Mixed::default());
    let mut megabytes = 0.0_f64;
    mixed(conn, Duration::from_secs(1), &mut new).await?;
    for _ in 0..3 {
        let part = mixed(conn, Duration::from_secs(2), &mut new).await?;
        without.reads.extend(part.reads);
        without.writes.extend(part.writes);
        for def in &chosen {
            run(conn, &def.create(Dialect::Postgres, &def.name())).await?;
        }
        let sql = "select coalesce(sum(pg_relation_size(i.indexrelid)), 0)::float8 / 1e6 from pg_index i \
                   join pg_class t on t.oid = i.indrelid where i.indexrelid::regclass::text like '%perfidx%' \
                   or i.indexrelid in (select inhrelid from pg_inherits where inhparent::regclass::text like 'perfidx%')";
        megabytes = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
        let part = mixed(conn, Duration::from_secs(2), &mut new).await?;
        with.reads.extend(part.reads);
        with.writes.extend(part.writes);
        for name in chosen.iter().map(IndexDef::name) {
            run(conn, &format!("drop index {name}")).await?;
        }
    }
    println!(
        "ratio shop-mixed-{budget}MB indexes={} mb={megabytes:.1} read_mean_us={:.0} read_mean_us_without={:.0} read_p95_us={:.0} \
         read_p95_us_without={:.0} write_mean_us={:.0} write_mean_us_without={:.0} writes/without={:.2} p95_gain_us_per_mb={:.0}",
        chosen.len(),
        mean(&with.reads),
        mean(&without.reads),
        p95(&with.reads),
        p95(&without.reads),
        mean(&with.writes),
        mean(&without.writes),
        mean(&with.writes) / mean(&without.writes),
        (p95(&without.reads) - p95(&with.reads)) / megabytes.max(0.1)
    );
    Ok(())
}
