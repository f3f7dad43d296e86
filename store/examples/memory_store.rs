//! Serves a store in memory in plain text: `cargo run -p corten-store --example memory_store -- 127.0.0.1:2379`.
//! For trying clients by hand. Not a way to run a cluster: everything is gone at the end.
//! Invariant: prints the address it listens on before it serves, so that scripts may use port 0.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:2379".to_owned());
    let shutdown = corten_base::shutdown::Shutdown::new();
    shutdown.on_signals()?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    #[expect(clippy::print_stdout, reason = "scripts read the address")]
    {
        println!("{}", listener.local_addr()?);
    }
    corten_store::memory::serve(listener, shutdown).await?;
    Ok(())
}
