-- NovaMart: a marketplace's two years of trade. Every number comes from md5 of row and salt, so
-- the data are the same on every machine and with every engine version.
CREATE TEMP MACRO draw(i, salt) AS
  CAST('0x' || substr(md5('novamart:' || salt || ':' || i), 1, 7) AS BIGINT) / 268435456.0;
CREATE TEMP MACRO pick(i, salt, n) AS CAST(floor(draw(i, salt) * n) AS BIGINT) + 1;
CREATE TEMP MACRO choose(i, salt, items) AS items[pick(i, salt, len(items))];
CREATE TEMP MACRO moment(i, salt) AS
  TIMESTAMP '2024-01-01 00:00:00' + to_seconds(CAST(floor(draw(i, salt) * 63072000) AS BIGINT));

CREATE TABLE categories AS
SELECT CAST(i AS INTEGER) AS category_id,
       ['Audio', 'Cameras', 'Laptops', 'Phones', 'Cookware', 'Lighting', 'Bedding', 'Storage',
        'Running', 'Cycling', 'Camping', 'Fitness', 'Fiction', 'History', 'Science', 'Comics',
        'Skincare', 'Haircare', 'Fragrance', 'Makeup', 'Puzzles', 'Dolls', 'Models', 'Games'][i]
         AS name,
       ['Electronics', 'Home', 'Sports', 'Books', 'Beauty', 'Toys'][(i - 1) // 4 + 1] AS department
FROM range(1, 25) t(i);

CREATE TABLE sellers AS
SELECT i AS seller_id,
       choose(i, 'sa', ['North', 'Blue', 'Prime', 'Urban', 'Green', 'Silver', 'Bright', 'Swift'])
         || ' '
         || choose(i, 'sb', ['Harbor', 'Peak', 'Field', 'Works', 'Supply', 'House', 'Trade'])
         || ' ' || i AS name,
       choose(i, 'sc', ['US', 'DE', 'GB', 'FR', 'JP', 'NL']) AS country,
       CAST(3 + 2 * draw(i, 'sr') AS DECIMAL(3, 2)) AS rating,
       TIMESTAMP '2022-01-01' + to_days(CAST(pick(i, 'sj', 700) AS INTEGER)) AS joined_at
FROM range(1, 121) t(i);

CREATE TABLE products AS
SELECT i AS product_id,
       'NM-' || lpad(CAST(i AS VARCHAR), 5, '0') AS sku,
       choose(i, 'pa', ['Classic', 'Compact', 'Deluxe', 'Essential', 'Pro', 'Eco'])
         || ' ' || c.name || ' ' || i AS name,
       c.category_id,
       pick(i, 'ps', 120) AS seller_id,
       CAST(4 + 240 * pow(draw(i, 'pp'), 2) AS DECIMAL(10, 2)) AS price,
       CAST((4 + 240 * pow(draw(i, 'pp'), 2)) * (0.4 + 0.3 * draw(i, 'pc')) AS DECIMAL(10, 2))
         AS cost,
       draw(i, 'pv') < 0.94 AS active,
       TIMESTAMP '2023-01-01' + to_days(CAST(pick(i, 'pd', 360) AS INTEGER)) AS created_at
FROM range(1, 601) t(i) JOIN categories c ON c.category_id = pick(i, 'pk', 24);

CREATE TABLE customers AS
SELECT i AS customer_id,
       choose(i, 'ca', ['Ada', 'Ben', 'Chloe', 'Dan', 'Eva', 'Finn', 'Grace', 'Hugo', 'Iris',
                        'Jan', 'Kira', 'Leo', 'Mia', 'Noah', 'Olga', 'Paul'])
         || ' '
         || choose(i, 'cb', ['Adler', 'Brown', 'Costa', 'Diaz', 'Evans', 'Fischer', 'Garcia',
                             'Hill', 'Ito', 'Jones', 'Klein', 'Lopez']) AS name,
       'customer' || i || '@novamart.example' AS email,
       choose(i, 'cc', ['US', 'US', 'US', 'DE', 'GB', 'FR', 'JP', 'CA']) AS country,
       choose(i, 'cs', ['consumer', 'consumer', 'consumer', 'business', 'vip']) AS segment,
       TIMESTAMP '2023-01-01' + to_hours(pick(i, 'cj', 8700)) AS signed_up_at
FROM range(1, 2001) t(i);

CREATE TABLE promotions AS
SELECT CAST(i AS INTEGER) AS promotion_id,
       'NOVA' || (100 + i) AS code,
       choose(i, 'mk', ['percent', 'fixed', 'free_shipping']) AS kind,
       CAST(5 + floor(6 * draw(i, 'md')) * 5 AS DECIMAL(5, 2)) AS discount,
       DATE '2024-01-01' + CAST((i - 1) * 18 AS INTEGER) AS starts_on,
       DATE '2024-01-01' + CAST((i - 1) * 18 + pick(i, 'me', 21) AS INTEGER) AS ends_on
FROM range(1, 41) t(i);

CREATE TEMP TABLE baskets AS
SELECT o AS order_id, pick(o * 8 + n, 'ip', 600) AS product_id,
       CAST(pick(o * 8 + n, 'iq', 3) AS INTEGER) AS quantity,
       CASE WHEN draw(o * 8 + n, 'id') < 0.15 THEN 0.10 ELSE 0 END AS share
FROM range(1, 8001) t(o), range(1, 5) u(n)
WHERE n <= pick(o, 'in', 4);

CREATE TABLE order_items AS
SELECT row_number() OVER (ORDER BY b.order_id, b.product_id, b.quantity) AS order_item_id,
       b.order_id, b.product_id, b.quantity, p.price AS unit_price,
       CAST(p.price * b.quantity * b.share AS DECIMAL(10, 2)) AS discount,
       CAST(p.price * b.quantity * (1 - b.share) AS DECIMAL(12, 2)) AS line_total
FROM baskets b JOIN products p USING (product_id);

CREATE TABLE orders AS
SELECT o.i AS order_id,
       pick(o.i, 'oc', 2000) AS customer_id,
       CASE WHEN draw(o.i, 'om') < 0.2 THEN CAST(pick(o.i, 'on', 40) AS INTEGER) END
         AS promotion_id,
       choose(o.i, 'os', ['delivered', 'delivered', 'delivered', 'delivered', 'delivered',
                          'delivered', 'shipped', 'processing', 'cancelled', 'returned']) AS status,
       choose(o.i, 'oh', ['web', 'web', 'mobile', 'mobile', 'store']) AS channel,
       s.subtotal,
       CAST(CASE WHEN s.subtotal > 75 THEN 0 ELSE 5.99 END AS DECIMAL(8, 2)) AS shipping_fee,
       CAST(s.subtotal + CASE WHEN s.subtotal > 75 THEN 0 ELSE 5.99 END AS DECIMAL(12, 2))
         AS total_amount,
       moment(o.i, 'oa') AS ordered_at
FROM range(1, 8001) o(i)
JOIN (SELECT order_id, CAST(sum(line_total) AS DECIMAL(12, 2)) AS subtotal
      FROM order_items GROUP BY order_id) s ON s.order_id = o.i
ORDER BY o.i;

CREATE TABLE payments AS
SELECT order_id AS payment_id, order_id,
       choose(order_id, 'ym', ['card', 'card', 'card', 'paypal', 'transfer', 'gift_card'])
         AS method,
       CASE WHEN status = 'returned' THEN 'refunded' ELSE 'captured' END AS status,
       total_amount AS amount,
       ordered_at + to_seconds(pick(order_id, 'yt', 900)) AS paid_at
FROM orders WHERE status <> 'cancelled' ORDER BY order_id;

CREATE TABLE shipments AS
SELECT row_number() OVER (ORDER BY order_id) AS shipment_id, order_id,
       choose(order_id, 'hc', ['UPS', 'DHL', 'FedEx', 'PostNL']) AS carrier,
       choose(order_id, 'hw', ['east', 'west', 'central']) AS warehouse,
       ordered_at + to_hours(pick(order_id, 'hs', 60)) AS shipped_at,
       CASE WHEN status <> 'shipped'
            THEN ordered_at + to_hours(60 + pick(order_id, 'hd', 120)) END AS delivered_at
FROM orders WHERE status IN ('delivered', 'shipped', 'returned');

CREATE TABLE "returns" AS
SELECT row_number() OVER (ORDER BY order_id) AS return_id, order_id,
       choose(order_id, 'rr', ['damaged', 'wrong_item', 'changed_mind', 'too_late']) AS reason,
       CAST(subtotal * (0.5 + 0.5 * draw(order_id, 'ra')) AS DECIMAL(12, 2)) AS refund_amount,
       ordered_at + to_days(CAST(8 + pick(order_id, 'rt', 20) AS INTEGER)) AS returned_at
FROM orders WHERE status = 'returned';

CREATE TABLE product_reviews AS
SELECT i AS review_id, pick(i, 'vp', 600) AS product_id, pick(i, 'vc', 2000) AS customer_id,
       CAST(choose(i, 'vr', [1, 2, 3, 4, 4, 5, 5, 5]) AS INTEGER) AS rating,
       choose(i, 'vt', ['As described', 'Great value', 'Not for me', 'Fast delivery',
                        'Broke early', 'Would buy again']) AS title,
       moment(i, 'va') AS created_at
FROM range(1, 5001) t(i);

CREATE TABLE inventory_levels AS
SELECT p.product_id, w.name AS warehouse,
       CAST(pick(p.product_id, w.name || 'q', 400) - 1 AS INTEGER) AS quantity_on_hand,
       CAST(20 + pick(p.product_id, w.name || 'r', 60) AS INTEGER) AS reorder_point,
       TIMESTAMP '2025-12-31 06:00:00' AS updated_at
FROM products p, (VALUES ('east'), ('west'), ('central')) w(name)
ORDER BY p.product_id, w.name;

CREATE TABLE email_campaigns AS
SELECT CAST(i AS INTEGER) AS campaign_id,
       choose(i, 'ea', ['Spring', 'Summer', 'Autumn', 'Winter', 'Flash', 'Loyalty'])
         || ' campaign ' || i AS name,
       CAST(500 + pick(i, 'es', 1500) AS BIGINT) AS recipients,
       CAST((500 + pick(i, 'es', 1500)) * (0.15 + 0.3 * draw(i, 'eo')) AS BIGINT) AS opens,
       CAST((500 + pick(i, 'es', 1500)) * 0.1 * draw(i, 'ec') AS BIGINT) AS clicks,
       TIMESTAMP '2024-01-03 09:00:00' + to_days(CAST((i - 1) * 12 AS INTEGER)) AS sent_at
FROM range(1, 61) t(i);
