//! The conversation of a session, as items of the Responses API.

use domain::ids::SessionId;
use serde_json::Value;

use super::text::clean;
use super::{Scope, StoreError};

impl Scope {
    /// Appends items in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn append_items(
        &mut self,
        session_id: SessionId,
        items: &[Value],
    ) -> Result<(), StoreError> {
        let owner = self.owner.clone();
        let items: Vec<Value> = items.iter().cloned().map(clean).collect();
        sqlx::query(
            "WITH numbered AS (
                 UPDATE sessions SET next_item = next_item + cardinality($3)
                 WHERE tenant_id = $1 AND id = $2
                 RETURNING next_item - cardinality($3) AS first
             )
             INSERT INTO conversation_items (tenant_id, session_id, position, item)
             SELECT $1, $2, first + ordinality - 1, item
             FROM numbered, unnest($3) WITH ORDINALITY AS given (item, ordinality)",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .bind(items)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// All items, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_items(&mut self, session_id: SessionId) -> Result<Vec<Value>, StoreError> {
        let owner = self.owner.clone();
        Ok(sqlx::query_scalar(
            "SELECT item FROM conversation_items
             WHERE tenant_id = $1 AND session_id = $2 ORDER BY position",
        )
        .bind(owner)
        .bind(session_id.to_string())
        .fetch_all(self.connection())
        .await?)
    }
}
