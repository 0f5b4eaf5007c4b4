//! tower layers, management API and live dashboard.
