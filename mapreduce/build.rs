//! Compiles the service's protocol; no protoc is needed.
#![expect(clippy::print_stdout, reason = "this is how a build script talks to cargo")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/mapreduce.proto");
    let files = protox::compile(["proto/mapreduce.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
