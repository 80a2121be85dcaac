pub(crate) async fn doctor(_: &crate::cli::Common) -> Result<(), crate::failure::Failure> {
    Ok(())
}
