output "kubeconfig" {
  description = "Path of the cluster's kubeconfig."
  value       = kind_cluster.this.kubeconfig_path
}
