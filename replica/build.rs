//! Turns `proto/*.proto` into Rust without protoc. Rooms with services of their own copy this
//! file, change the names, and include the result with `tonic::include_proto!("plumeria.NAME")`
//! in a module of its own that expects `missing_docs`; see `src/mesh.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/replica.proto"], ["proto"])?;
    // `bytes` fields become `Bytes`: received payloads are slices of what was read, not copies.
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
