pub(crate) fn install(_: &crate::cli::Install) -> Result<(), crate::failure::Failure> {
    Ok(())
}
pub(crate) fn uninstall(_: &crate::cli::Uninstall) -> Result<(), crate::failure::Failure> {
    Ok(())
}
