//! The client beside the best-known others, over the same local server.
//!
//! ```text
//! cargo run --release                # throughput: one stream over loopback, read to its end
//! cargo run --release -- behaviour   # what each does with answers that are not quite right
//! ```

mod behaviour;
mod clients;
mod throughput;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => throughput::run(&runtime),
        ["behaviour"] => runtime.block_on(behaviour::run("")),
        ["behaviour", part] => runtime.block_on(behaviour::run(part)),
        _ => {
            eprintln!("usage: sse-client-compare [behaviour [PART OF A NAME]]");
            std::process::exit(2);
        }
    }
}
