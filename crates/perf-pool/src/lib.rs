//! Connection pools that are fair, never wasted, never trusted blindly: SQL, Redis, WebSocket and yours.
