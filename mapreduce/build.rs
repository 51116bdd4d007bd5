//! Compiles the service's protocol; no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/mapreduce.proto");
    let files = protox::compile(["proto/mapreduce.proto"], ["proto"])?;
    // A journal has the pieces of a job's input.
    let kept = "#[derive(serde::Serialize, serde::Deserialize)]";
    tonic_prost_build::configure()
        .type_attribute("plumeria.mapreduce.Piece", kept)
        .compile_fds(files)?;
    Ok(())
}
