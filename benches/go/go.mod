module wirepath/benches/go

go 1.27
