module serve

go 1.26.0
