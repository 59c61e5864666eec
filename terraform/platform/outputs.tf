output "namespace" {
  description = "Where the chart is, or is to be, installed."
  value       = var.namespace
}
