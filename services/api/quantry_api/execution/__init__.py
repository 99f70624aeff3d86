"""The execution API: what workers ask and report."""
