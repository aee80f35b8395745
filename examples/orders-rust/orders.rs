//! The handlers of the board: orders in the state tree of their user, and a report as a job.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use pagewire::{BlockingCtx, Ctx, Fail, Level};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The orders of a user, by their number.
type Orders = BTreeMap<u64, StoredOrder>;

/// What a customer wants.
#[derive(Deserialize)]
pub(crate) struct Order {
    item: String,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    New,
    Packed,
    Sent,
}

/// An order as it is stored and shown.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredOrder {
    number: u64,
    item: String,
    count: u32,
    status: Status,
}

#[derive(Deserialize)]
pub(crate) struct AddOrder {
    order: Order,
}

#[derive(Deserialize)]
pub(crate) struct MoveOrder {
    number: u64,
    status: Status,
}

#[derive(Deserialize)]
pub(crate) struct Report {
    #[serde(default = "four")]
    seconds: f64,
}

fn four() -> f64 {
    4.0
}

/// Returns the orders of the user.
pub(crate) async fn list_orders(ctx: Ctx, (): ()) -> Result<Orders, Fail> {
    Ok(ctx.tree(Level::User).get("orders").await?.unwrap_or_default())
}

/// Adds an order, and notifies all pages of the user. They watch the tree and show it.
pub(crate) async fn add_order(ctx: Ctx, AddOrder { order }: AddOrder) -> Result<StoredOrder, Fail> {
    if ctx.user().id().is_none() {
        return Err(Fail::new("forbidden", "log in first: orders belong to a user"));
    }
    let item = order.item.trim().to_owned();
    if item.is_empty() || !(1..=99).contains(&order.count) {
        return Err(Fail::new("malformed", "an order has an item, and a count from 1 to 99"));
    }
    // called again if another page was first
    let add = |orders: &mut Orders| {
        let number = orders.keys().last().map_or(1, |last| last + 1);
        let added = StoredOrder { number, item: item.clone(), count: order.count, status: Status::New };
        orders.insert(number, added.clone());
        Ok(added)
    };
    let added = ctx.tree(Level::User).update("orders", add).await?;
    let note = format!("Order {} is new: {} × {}", added.number, added.count, added.item);
    ctx.user().send(&json!({ "note": note })).await?;
    Ok(added)
}

/// Moves an order to another column.
pub(crate) async fn move_order(ctx: Ctx, MoveOrder { number, status }: MoveOrder) -> Result<(), Fail> {
    let change = |orders: &mut Orders| match orders.get_mut(&number) {
        Some(order) => {
            order.status = status;
            Ok(())
        }
        None => Err(Fail::new("not_found", format!("there is no order {number}"))),
    };
    ctx.tree(Level::User).update("orders", change).await?;
    ctx.user()
        .send(&json!({ "note": format!("Order {number} is {}", json!(status).as_str().unwrap_or_default()) }))
        .await?;
    Ok(())
}

/// Counts the orders by their status; slow on purpose, to show progress, cancelling and a new attempt.
pub(crate) fn report(ctx: BlockingCtx, Report { seconds }: Report) -> Result<serde_json::Value, Fail> {
    let steps = (seconds * 20.0).clamp(1.0, 2400.0) as u64;
    for step in ctx.track(0..steps as usize) {
        step?;
        sleep(Duration::from_millis(50));
    }
    let orders: Orders = ctx.wait(ctx.tree(Level::User).get("orders"))?.unwrap_or_default();
    let count = |status| orders.values().filter(|order| order.status == status).count();
    Ok(json!({
        "orders": orders.len(), "attempt": ctx.attempt(),
        "new": count(Status::New), "packed": count(Status::Packed), "sent": count(Status::Sent),
    }))
}
